package dialect

import (
	"encoding/base64"
	"strings"
	"testing"

	"sidestream/translate"
)

// phxTokenSession is one whose line has the token at *token.
func phxTokenSession(token *string) *phoenix {
	return newPhoenix(Options{
		Dial: func() (Dial, error) { return Dial{URL: "ws://h/"}, nil },
		Subscribe: func() ([]string, error) {
			return []string{`realtime:a {"n":1.50,"access_token":"` + *token + `"}`, "room:b"}, nil
		},
	}).(*phoenix)
}

// joined opens a connection, and returns the token of its first join; status answers it.
func (s *phoenix) joined(t *testing.T, status string) (token string, err error) {
	t.Helper()
	if _, err := s.Dial(nil); err != nil {
		t.Fatal(err)
	}
	frames, err := s.Open("")
	if err != nil {
		t.Fatal(err)
	}
	m, err := parsePhxV2(frames[0].Data)
	if err != nil || !strings.Contains(string(m.payload), `"n":1.50`) {
		t.Fatalf("%s, %v", frames[0].Data, err)
	}
	for _, answer := range []string{`["1","1","realtime:a","phx_reply",{"status":"` + status + `","response":{"reason":"InvalidJWTToken"}}]`, `["2","2","room:b","phx_reply",{"status":"ok","response":{}}]`} {
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(answer)}); err != nil {
			return phxTokenOf(m.payload), err
		}
	}
	return phxTokenOf(m.payload), nil
}

func phxPing(t *testing.T, s *phoenix) (said string) {
	t.Helper()
	frames, err := s.Ping()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		said += string(f.Data) + " "
	}
	s.beat = ""
	return said
}

// A token that the line has anew goes into the running channel with the next heartbeat, as @supabase/realtime-js has it.
func TestPhoenixTokenOfTheLine(t *testing.T) {
	token := "one"
	s := phxTokenSession(&token)
	if got, err := s.joined(t, "ok"); got != "one" || err != nil {
		t.Fatalf("joined with %s, %v", got, err)
	}
	if said := phxPing(t, s); strings.Contains(said, "access_token") {
		t.Errorf("the token that the channel has is pushed: %s", said)
	}
	token = "two"
	if said := phxPing(t, s); !strings.HasPrefix(said, `["1","5","realtime:a","access_token",{"access_token":"two"}] `) || !strings.Contains(said, "heartbeat") {
		t.Errorf("said %s", said)
	}
	if said := phxPing(t, s); strings.Contains(said, "access_token") {
		t.Errorf("it is pushed twice: %s", said)
	}
	if got, _ := s.joined(t, "ok"); got != "two" {
		t.Errorf("joined again with %s", got)
	}
}

// What a client has pushed is the channel's token, over reconnects too, until the line has another, or it is refused.
func TestPhoenixTokenOfAClient(t *testing.T) {
	token := "one"
	s := phxTokenSession(&token)
	push := func(text string) {
		t.Helper()
		if _, err := s.Send(translate.Message{Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	s.joined(t, "ok")
	push(`realtime:a access_token {"access_token":"pushed"}`)
	push(`realtime:a other {"access_token":"not one"}`)
	push(`realtime:a access_token {"access_token":""}`)
	push(`realtime:a access_token {"access_token":"` + strings.Repeat("x", maxPhxToken+1) + `"}`)
	push(`room:b access_token {"access_token":"of a channel that joins without"}`)
	push(`room:c access_token {"access_token":"of none"}`)
	if said := phxPing(t, s); strings.Contains(said, "access_token") {
		t.Errorf("the line's is pushed over it: %s", said)
	}
	if got, _ := s.joined(t, "ok"); got != "pushed" || len(s.tokens) != 1 {
		t.Errorf("joined again with %s; %d tokens", got, len(s.tokens))
	}
	got, err := s.joined(t, "error")
	if _, refused := err.(*translate.Refused); got != "pushed" || err == nil || refused {
		t.Errorf("%s: %v", got, err)
	}
	got, err = s.joined(t, "error")
	if _, refused := err.(*translate.Refused); got != "one" || !refused {
		t.Errorf("%s: %v", got, err)
	}
	s.joined(t, "ok")
	push(`realtime:a access_token {"access_token":"pushed"}`)
	token = "two"
	if got, _ := s.joined(t, "ok"); got != "two" {
		t.Errorf("joined with %s, although the line has another one", got)
	}
	if s.Save() != nil {
		t.Error("a token is saved")
	}
}

// phxJWT is a token of a user's.
func phxJWT(user, id string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+user+`","id":"`+id+`"}`)) + ".c2ln"
}

// All who read a stream get what its token lets see: a client pushes none of another user's, and a stream of nobody's takes none.
func TestPhoenixTokenOfAnother(t *testing.T) {
	token := phxJWT("ann", "1")
	s := phxTokenSession(&token)
	s.joined(t, "ok")
	ann, bob := phxJWT("ann", "2"), phxJWT("bob", "1")
	for text, want := range map[string]bool{
		`realtime:a access_token {"access_token":"` + ann + `"}`:                                    true,
		`realtime:a access_token {"access_token":"` + bob + `"}`:                                    false,
		`realtime:a access_token {"access_token":"` + bob + `","Access_Token":"` + ann + `"}`:       false,
		`realtime:a access_token {"access_token":"` + bob + `","access_token":"` + ann + `"}`:       false,
		`realtime:a access_token {"access_token":"` + ann + `","x":{"access_token":"` + bob + `"}}`: false,
		`realtime:a access_token {"access_token":"` + ann + `"} {}`:                                 false,
		`realtime:a access_token {"access_token":""}`:                                               false,
		`realtime:a access_token {"access_token":null}`:                                             false,
		`realtime:a access_token`:                             false,
		`realtime:a access_token {"access_token":"opaque"}`:   false,
		`realtime:a phx_join {"access_token":"` + bob + `"}`:  false,
		`room:b phx_join {}`:                                  false,
		`room:b access_token {"access_token":"` + bob + `"}`:  true, // which has none, and is not Supabase's
		`realtime:a broadcast {"access_token":"` + bob + `"}`: true,
		`realtime:c phx_join {}`:                              true, // which nobody reads
	} {
		if err := s.Admit(translate.Message{Data: []byte(text)}); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		} else if err != nil && (strings.Contains(err.Error(), bob) || strings.Contains(err.Error(), ann)) {
			t.Errorf("it says the token: %v", err)
		}
	}
	for _, nobody := range []string{"opaque", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"role":"anon"}`)) + ".c2ln"} {
		token = nobody
		s = phxTokenSession(&token)
		s.joined(t, "ok")
		for _, pushed := range []string{bob, nobody} {
			if err := s.Admit(translate.Message{Data: []byte(`realtime:a access_token {"access_token":"` + pushed + `"}`)}); err == nil {
				t.Error("a stream that all have takes a user's token")
			}
		}
	}
}

// What a server says of a token that it refuses is no place to read it.
func TestPhoenixTokenIsHidden(t *testing.T) {
	token := "one"
	s := phxTokenSession(&token)
	s.joined(t, "ok")
	s.noted("realtime:a", "access_token", []byte(`{"access_token":"InvalidJWTToken"}`))
	if _, err := s.joined(t, "error"); err == nil || strings.Contains(err.Error(), "InvalidJWTToken") {
		t.Errorf("%v", err)
	}
}
