package dialect

import (
	"net/http"
	"strings"
	"testing"

	"sidestream/translate"
)

func parseSession(lines ...string) *parseLive {
	dial := func() (Dial, error) {
		return Dial{URL: "wss://h/live", Header: http.Header{"Cookie": {"a=secret"}}}, nil
	}
	s, _ := newParse(Options{Dial: dial, Connect: fixed(`{"applicationId":"app","clientKey":"client.key"}`), Subscribe: fixedLines(lines...), MaxMessage: fuzzMax}).(*parseLive)
	return s
}

func TestParseCheck(t *testing.T) {
	for connect, want := range map[string]string{
		`{"applicationId":"a","javascriptKey":"k","masterKey":"m","windowsKey":"w","restAPIKey":"r","installationId":"i","sessionToken":""}`: "",
		``: "CONNECT: is not a JSON object of texts", `{"applicationId":1}`: "CONNECT: is not a JSON object of texts", `{"clientKey":"k"}`: "CONNECT: has no applicationId",
		`{"applicationId":"a","key":"k"}`: "CONNECT: has a field that LiveQuery does not know", `null`: "CONNECT: is not a JSON object of texts", `{"applicationId":"a"}}`: "CONNECT: is not a JSON object of texts",
	} {
		err := checkParse(connect, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v", connect, err)
		}
	}
	for line, want := range map[string]string{
		"Order": "", `Order {}`: "", `Order {"where":{"$or":[{"a":1}]},"keys":["a"],"watch":["a"]}`: "", `_User {"fields":["a"]}`: "",
		`{"where":{}}`: "SUBSCRIBE: line 1: has no topic", `Order x`: "SUBSCRIBE: line 1: has no JSON object", `Order {"a":1}`: "SUBSCRIBE: line 1: has something beside where",
		`Order {"where":[]}`: "SUBSCRIBE: line 1: has something beside where", `Order {"keys":"a"}`: "SUBSCRIBE: line 1: has something beside where",
	} {
		err := checkParse(`{"applicationId":"a"}`, []string{line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A redirect leads one dial elsewhere, without what is for the first host alone.
func TestParseRedirects(t *testing.T) {
	for address, want := range map[string]string{"wss://h/other": "wss://h/other a=secret", "wss://h:443/x#y": "wss://h:443/x a=secret", "wss://other/": "wss://other/ ", "wss://h:444/": "wss://h:444/ "} {
		s := parseSession("Order")
		if _, err := s.Dial(nil); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Open("")
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"op":"redirect","url":"` + address + `"}`)}); err == nil {
			t.Fatal("the connection goes on")
		}
		if d, err := s.Dial(nil); err != nil || d.URL+" "+d.Header.Get("Cookie") != want {
			t.Errorf("%s: %s %v, %v", address, d.URL, d.Header, err)
		}
		if d, err := s.Dial(nil); err != nil || d.URL != "wss://h/live" || d.Header.Get("Cookie") == "" {
			t.Errorf("after that: %s, %v", d.URL, err)
		}
	}
	for _, address := range []string{"ws://h/", "https://h/", "/path", "wss://u:p@h/", "wss://", "", "wss://h/" + strings.Repeat("x", maxParseAddress)} {
		s := parseSession("Order")
		_, _ = s.Dial(nil)
		_, _ = s.Open("")
		_, _ = s.Receive(t.Context(), noon, Frame{Data: []byte(`{"op":"redirect","url":"` + address + `"}`)})
		if d, _ := s.Dial(nil); d.URL != "wss://h/live" {
			t.Errorf("%s is followed", address)
		}
	}
}

// An event that cannot be told of a line that stands is a gap, also while another line is waited for.
func TestParseFailsBetweenLines(t *testing.T) {
	s := parseSession("Order", "Note")
	_, _ = s.Open("")
	said := ""
	for _, m := range []string{`{"op":"connected"}`, `{"op":"subscribed","requestId":1}`, `{"op":"error","code":141,"error":"it fails","reconnect":false,"requestId":1}`, `{"op":"subscribed","requestId":2}`} {
		got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(m)})
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		for _, m := range got.Messages {
			said += m.Gap
		}
	}
	if said != translate.GapUpstream || !s.ready {
		t.Errorf("said %q", said)
	}
	_, _ = s.Open("")
	_, _ = s.Receive(t.Context(), noon, Frame{Data: []byte(`{"op":"connected"}`)})
	_, _ = s.Receive(t.Context(), noon, Frame{Data: []byte(`{"op":"subscribed","requestId":1}`)})
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"op":"error","code":119,"requestId":2}`)}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a line that is refused: %v", err)
	}
}

// What the client whose connection is read has beside the lines is left out, with its own numbers.
func TestParseOverheard(t *testing.T) {
	s := parseSession(`Order {"where":{"a":1,"b":2}}`, "Note")
	_, _ = s.Open("")
	o := newParseOverheard([]string{`Order {"where":{"a":1,"b":2}}`, "Note"})
	said := ""
	for _, step := range []string{`>{"op":"connect","applicationId":"a"}`, `<{"op":"connected","clientId":"x"}`, `>{"op":"subscribe","requestId":7,"query":{"className":"Order","where":{"b":2,"a":1}},"sessionToken":"t"}`,
		`>{"op":"subscribe","requestId":8,"query":{"className":"Order","where":{"a":1}}}`, `>{"op":"subscribe","requestId":9,"query":{"className":"Note","where":{}}}`, `<{"op":"subscribed","requestId":7}`, `<{"op":"subscribed","requestId":8}`, `-`,
		`<{"op":"subscribed","requestId":9}`, `+`, `<{"op":"create","requestId":7,"object":{"n":1}}`, `<{"op":"create","requestId":8,"object":{"n":2}}`, `<{"op":"update","requestId":9,"object":{"n":3},"original":{"n":2}}`,
		`<{"op":"error","requestId":8,"code":1}`, `+`, `<{"op":"error","requestId":9,"code":1}`, `+`, `>{"op":"unsubscribe","requestId":7}`, `-`, `<{"op":"unsubscribed","requestId":7}`, `<{"op":"create","requestId":7,"object":{"n":4}}`} {
		f := Frame{Data: []byte(step[1:])}
		switch step[0] {
		case '>':
			o.Client(f)
		case '<':
			for _, f := range o.Server(f) {
				got, err := s.Receive(t.Context(), noon, f)
				if err != nil {
					t.Fatalf("%s: %v", step, err)
				}
				for _, m := range got.Messages {
					said += m.Topic + string(m.Data) + " "
				}
			}
		default:
			if o.Listening() != (step == "+") {
				t.Errorf("listening: %v, want %s; said %s", o.Listening(), step, said)
			}
		}
	}
	if want := `Order{"object":{"n":1}} Note{"object":{"n":3},"original":{"n":2}} `; said != want || !s.ready {
		t.Errorf("said %s, want %s", said, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(pieces("\x00{\"op\":\"connected\",\"clientId\":\"x\"}", "\x00{\"op\":\"subscribed\",\"requestId\":1}", "\x00{\"op\":\"subscribed\",\"requestId\":2}", "\x00{\"op\":\"update\",\"requestId\":2,\"object\":{\"objectId\":\"a\"},\"original\":null}",
		"\x00{\"op\":\"error\",\"code\":1,\"error\":\"x\",\"reconnect\":false,\"requestId\":1}", "\x04x", "\x00{\"op\":\"unsubscribed\",\"requestId\":1}"))
	f.Add(pieces("\x00{\"op\":\"redirect\",\"url\":\"wss://x/\"}", "\x06", "\x00{\"op\":\"error\",\"code\":4,\"reconnect\":true}"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := parseSession("A", `B {"where":{"c":1}}`)
		drive(t, s, script, func() {
			if len(s.waiting) > 2 || len(s.classes) > 2 || len(s.elsewhere) > maxParseAddress {
				t.Fatalf("it grows: %d, %d, %d", len(s.waiting), len(s.classes), len(s.elsewhere))
			}
			if _, err := s.Send(translate.Message{}); err == nil {
				t.Fatal("something is sent")
			}
		})
	})
}
