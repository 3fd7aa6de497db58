package dialect

import "testing"

// A service's text is shown, without what may be a secret in it.
func TestServerTextWithoutSecrets(t *testing.T) {
	for said, want := range map[string]string{
		"Access refused for user 'guest'":                   "Access refused for user 'guest'",
		"bad token: opensesame, sorry":                      "bad token: … sorry",
		"no session=opensesame":                             "no session=…",
		"invalid credential 'hunter2'.":                     "invalid credential '…'.",
		"room:lobby is unknown in v1.2 (4401)":              "room:lobby is unknown in v1.2 (4401)",
		"who is 5f4dcc3b5aa765d61d8327deb882cf99?":          "who is …?",
		"expected eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2k": "expected …",
	} {
		if got := serverText(said); got != want {
			t.Errorf("%s: %s", said, got)
		}
	}
}
