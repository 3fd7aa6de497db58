package dialect

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"sidestream/translate"
)

func phxSession(from string, lines ...string) *phoenix {
	return newPhoenix(Options{
		Dial:      func() (Dial, error) { return Dial{URL: from, Header: http.Header{}}, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*phoenix)
}

func TestPhoenixCheck(t *testing.T) {
	for line, want := range map[string]string{
		`room:lobby`: "", `room:lobby {"a":1}`: "", "room:lobby\t{}": "",
		`room:lobby a`: "no JSON object", `room:lobby [1]`: "no JSON object", `room:lobby {"a"`: "no JSON object", `{"a":1}`: "no topic", `["1"]`: "no topic",
		`phoenix`: "leave it out",
	} {
		err := checkPhoenix("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestPhoenixAddress(t *testing.T) {
	for from, want := range map[string]string{
		"ws://h/socket":                     "ws://h/socket/websocket?vsn=2.0.0",
		"wss://h/socket/":                   "wss://h/socket/websocket?vsn=2.0.0",
		"ws://h/socket/websocket?a=b":       "ws://h/socket/websocket?a=b&vsn=2.0.0",
		"ws://h/a%2Fb?vsn=2.0.0":            "ws://h/a%2Fb/websocket?vsn=2.0.0",
		"ws://h/socket?x=%7B%22&vsn=1.0.0&": "ws://h/socket/websocket?x=%7B%22&vsn=1.0.0&",
		"ws://h/socket?vsn=3.0.0":           "",
		"ws://h/socket?vsn=":                "",
	} {
		s := phxSession(from)
		d, err := s.Dial(nil)
		if d.URL != want || (err == nil) != (want != "") || s.v1 != strings.Contains(want, "vsn=1") {
			t.Errorf("%s: %s, %v", from, d.URL, err)
		}
	}
}

func TestPhoenixSameTopicTwice(t *testing.T) {
	var refused *translate.Refused
	if _, err := phxSession("ws://h/", "room:a", `room:a {"b":1}`).Open(""); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
}

// Whatever its lengths say, a binary message is taken apart within its bounds.
func TestPhoenixBinaryBounds(t *testing.T) {
	for kind := range 4 {
		for n := range 12 {
			for size := range 6 {
				data := make([]byte, 0, 16)
				data = append(data, byte(kind))
				for range n {
					data = append(data, byte(size))
				}
				m, err := parsePhxBinary(data)
				if err == nil && len(m.joinRef)+len(m.ref)+len(m.topic)+len(m.payload) > len(data) {
					t.Errorf("% x: %+v", data, m)
				}
			}
		}
	}
}

func TestPhoenixOtherChannel(t *testing.T) {
	s := phxSession("ws://h/", "room:a")
	s.Open("")
	if _, err := s.Receive(context.Background(), noon, Frame{Data: []byte(`["1","1","room:b","phx_close",{}]`)}); err != nil {
		t.Errorf("the end of another channel ended the connection: %v", err)
	}
}

func FuzzPhoenix(f *testing.F) {
	joined := "\x00[\"1\",\"1\",\"room:a\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]"
	f.Add(pieces(joined, "\x00[null,null,\"room:a\",\"new\",{\"n\":1}]", "\x03", "\x00[null,\"3\",\"phoenix\",\"phx_reply\",{}]", "\x03", "\x04room:a shout {}"), false)
	f.Add(pieces(joined, "\x02\x02\x06\x01room:ax\x01", "\x02\x00\x01\x06\x011room:ax\x01", "\x02\x01\x01\x01\x06\x0219room:aok\x01"), false)
	f.Add(pieces("\x00{\"topic\":\"room:a\",\"event\":\"phx_reply\",\"payload\":{\"status\":\"ok\"},\"ref\":\"1\"}", "\x00{\"topic\":\"room:a\",\"event\":\"x\",\"ref\":2}"), true)
	f.Add(pieces(joined, "\x04room:a access_token {\"access_token\":\"u\"}", "\x06", "\x00[\"1\",\"1\",\"room:a\",\"phx_reply\",{\"status\":\"error\"}]", "\x06", "\x03"), false)
	f.Fuzz(func(t *testing.T, script []byte, v1 bool) {
		from := "ws://h/socket"
		if v1 {
			from += "?vsn=1.0.0"
		}
		s := phxSession(from, `room:a {"access_token":"t"}`, "room:b {}")
		s.Dial(nil)
		drive(t, s, script, func() {
			if len(s.channels) > 2 || len(s.tokens) > 1 || s.joining < 0 || s.joining > 2 || len(s.beat) > 10 {
				t.Fatal("it grows")
			}
		})
	})
}
