package translate

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func TestLooksSecret(t *testing.T) {
	for _, secret := range []string{
		"bot123456:AA", "bot123456%3AAAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "ghp_16C7e42F292c6912E7", "xoxb-2444333222111-abcdEFGH", "sk_live_4eC39HqLyjWDarjt",
		"AKIAIOSFODNN7EXAMPLE", "550e8400-e29b-41d4-a716-446655440000", "550e8400e29b41d4a716446655440000", "5f4dcc3b5aa765d61d8327deb882cf99",
		"JBSWY3DPEHPK3PXPJBSWY3DP", "QwErTyUiOpAsDfGhJkLz", "qwertzuiopasdfghjklyxcvbnm", "507f1f77bcf86cd799439011",
		"aGVsbG8-d29ybGQ_dGhpcy1pcw", "hook-aGVsbG8gd29ybGQgdGhpcyBpcw%3D%3D",
	} {
		if !LooksSecret(secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for _, word := range []string{
		"", "prices", "getUpdates", "socket.io", "events-2024-01-02", "my-long-resource-name-of-today", "allowWatchBookmarks", "iTunesLibrary",
		"order2024", "room12", "v2", "12345678901234567890", "rest", "TrackedOrdersByCustomer", "a%20b", "default_server_group.json",
		"web-7d9f8b6c5d", "_changes", "BTC-USD", "bot", "skeleton", "hfdata", "websocket", "{path.id}", "internationalization", "GLOBALSETTINGS",
	} {
		if LooksSecret(word) {
			t.Errorf("%s is hidden", word)
		}
	}
	shown, chance := 0, rand.NewChaCha8([32]byte{1})
	for range 10000 {
		raw := make([]byte, 24)
		chance.Read(raw)
		for _, token := range []string{base64.RawURLEncoding.EncodeToString(raw), hex.EncodeToString(raw)} {
			if !LooksSecret(token) {
				shown++
			}
		}
	}
	if shown > 20 { // it is a guess, and 1 in 1000 is that of words by chance
		t.Errorf("%d of 20000 tokens are shown", shown)
	}
}

func TestNamesSecret(t *testing.T) {
	for text, want := range map[string]bool{"token": true, "access_token": true, "X-Api-Key": true, "password": true, "apikey": true, "tokens": false, "key": false, "login": false} {
		if NamesSecret(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// The error for what is not a program quotes none of its strings.
func TestProgramThatIsNoneKeepsItsTexts(t *testing.T) {
	_, err := CompileJQ("HELLO", `{a:"b" "opensesame"}`)
	if err == nil || err.Error() != "is not a jq program: unexpected text in quotes" {
		t.Error(err)
	}
}
