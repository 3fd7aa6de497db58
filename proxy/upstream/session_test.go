package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// spoken is a dialect that a test writes by its functions; those that are nil do nothing.
type spoken struct {
	dialect.Base
	o       dialect.Options
	dial    func(last *dialect.HTTPResponse, base dialect.Dial) (dialect.Dial, error)
	opening time.Duration
	receive func(s *spoken, text string) (dialect.Received, error)
	skipped error
	timers  dialect.Timers
	closed  func(code int, reason string) error
	resumes bool
	leave   string
	greets  bool // Open sends what it was given
	pings   int
}

func (s *spoken) Dial(last *dialect.HTTPResponse) (dialect.Dial, error) {
	base, err := s.o.Dial()
	if err != nil || s.dial == nil {
		return base, err
	}
	return s.dial(last, base)
}

func (s *spoken) Open(protocol string) ([]dialect.Frame, error) {
	s.timers.Opening = s.opening
	lines, err := s.o.Subscribe()
	if err != nil {
		return nil, err
	}
	connect, err := s.o.Connect()
	if !s.greets {
		return nil, err
	}
	return []dialect.Frame{{Data: fmt.Appendf(nil, "open %s %s %s", protocol, connect, strings.Join(lines, "|"))}}, err
}

func (s *spoken) Receive(_ context.Context, _ time.Time, f dialect.Frame) (dialect.Received, error) {
	if s.receive == nil {
		return dialect.Received{Messages: []translate.Message{{Data: f.Data}}}, nil
	}
	return s.receive(s, string(f.Data))
}

func (s *spoken) Send(m translate.Message) ([]dialect.Frame, error) {
	return []dialect.Frame{{Data: m.Data}}, nil
}

func (s *spoken) Skipped() error         { return s.skipped }
func (s *spoken) Timers() dialect.Timers { return s.timers }
func (s *spoken) Resumable() bool        { return s.resumes }

func (s *spoken) Ping() ([]dialect.Frame, error) {
	if s.pings++; s.pings > 2 {
		return nil, errors.New("no answer to the ping")
	}
	return []dialect.Frame{{Data: fmt.Append(nil, "ping ", s.pings)}}, nil
}

func (s *spoken) Closed(code int, reason string) error {
	if s.closed == nil {
		return nil
	}
	return s.closed(code, reason)
}

func (s *spoken) Leave() []dialect.Frame {
	if s.leave == "" {
		return nil
	}
	return []dialect.Frame{{Data: []byte(s.leave)}}
}

// speaking makes the dialect of every route compiled from here on one of which s is the only session.
func speaking(t *testing.T, s *spoken, settings SourceSettings) SourceSettings {
	t.Helper()
	was := dialect.Table
	dialect.Table = append(was[:len(was):len(was)], dialect.Dialect{
		Name: "spoken", Connects: true, Subscribes: dialect.TopicLine, Subprotocols: []string{"spoken.v1"},
		New: func(o dialect.Options) dialect.Session { s.o = o; return s },
	})
	t.Cleanup(func() { dialect.Table = was })
	settings.Protocol = "spoken"
	return settings
}

func accepting(talk func(p *peer)) *feed {
	return &feed{options: websocket.AcceptOptions{Subprotocols: []string{"spoken.v1"}}, talk: talk}
}

func received(texts ...string) (got dialect.Received) {
	for _, text := range texts {
		got.Messages = append(got.Messages, translate.Message{Data: []byte(text)})
	}
	return got
}

func TestSessionOpens(t *testing.T) {
	f := accepting(nil)
	f.talk = f.listen
	s := &spoken{greets: true, leave: "bye"}
	settings := speaking(t, s, SourceSettings{Connect: `{"n":{stream.n}}`, Subscribe: " a/b\n\n c {stream.n} \n"})
	subscribed(t, settings, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		k.end()
		f.expect(t, `0s open spoken.v1 {"n":2} a/b|c 1`, "1s bye", "1s closed 1001")
	})
}

// A request before the dial is made anew each time, and says where to.
func TestRequestBeforeTheDial(t *testing.T) {
	f := accepting(func(p *peer) { p.say(fmt.Sprint(p.n)) })
	asked := 0
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/feed" {
			t.Error("the route's own address was dialled")
		}
		if r.URL.Path != "/negotiate" {
			return false
		}
		asked++
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || string(body) != "please" || r.Header.Get("X-Key") != "k" {
			t.Errorf("%s %s %q %v", r.Method, r.URL, body, r.Header)
		}
		switch asked {
		case 2:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 4:
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprintf(w, "ws://legacy/ticket/%d", asked)
		}
		return true
	}
	s := &spoken{dial: func(last *dialect.HTTPResponse, base dialect.Dial) (dialect.Dial, error) {
		if last == nil {
			return dialect.Dial{Request: &dialect.HTTPRequest{Method: "POST", URL: "http://legacy/negotiate", Header: base.Header, Body: []byte("please")}}, nil
		}
		base.URL = string(last.Body)
		return base, nil
	}}
	subscribed(t, speaking(t, s, SourceSettings{Headers: "X-Key: k"}), f, func(t *testing.T, k *taking) {
		time.Sleep(time.Minute)
		k.expect("0s 2", "0s lost: connection lost: EOF",
			"1s lost: request before the dial: answered 503",
			"8s 5", "8s lost: connection lost: EOF")
		var refused *translate.Refused
		if err := k.end(); !errors.As(err, &refused) || refused.Status != 403 {
			t.Errorf("%v", err)
		}
	})
}

func TestRequestsBeforeTheDialAreBounded(t *testing.T) {
	f := accepting(nil)
	big := false
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if big {
			io.WriteString(w, strings.Repeat("x", maxAnswer+1))
		}
		return true
	}
	s := &spoken{dial: func(*dialect.HTTPResponse, dialect.Dial) (dialect.Dial, error) {
		return dialect.Dial{Request: &dialect.HTTPRequest{Method: "GET", URL: "http://legacy/again"}}, nil
	}}
	settings := speaking(t, s, SourceSettings{})
	subscribed(t, settings, f, func(t *testing.T, k *taking) {
		k.expect(fmt.Sprintf("0s lost: more than %d requests before the dial", maxRequests))
	})
	big = true
	subscribed(t, settings, f, func(t *testing.T, k *taking) {
		k.expect(fmt.Sprintf("0s lost: request before the dial: the answer is larger than %d bytes", maxAnswer))
	})
}

func TestClosedIsTheSessionsToJudge(t *testing.T) {
	verdicts := map[string]error{
		"4001 no such user": &translate.Refused{Status: 401, Reason: "x"},
		"4002 complete":     translate.ErrFinished,
		"4003 slowly":       &translate.Later{After: 20 * time.Second, Err: errors.New("too fast")},
	}
	for closing, want := range verdicts {
		var code websocket.StatusCode
		var reason string
		fmt.Sscanf(closing, "%d", &code)
		_, reason, _ = strings.Cut(closing, " ")
		f := accepting(func(p *peer) { p.Close(code, reason) })
		s := &spoken{closed: func(code int, reason string) error { return verdicts[fmt.Sprint(code, " ", reason)] }}
		subscribed(t, speaking(t, s, SourceSettings{}), f, func(t *testing.T, k *taking) {
			time.Sleep(19 * time.Second)
			if err := k.end(); !errors.Is(err, want) && !errors.As(err, new(*Retry)) {
				t.Errorf("%s: %v", closing, err)
			}
			if f.times = f.times[:len(f.times):len(f.times)]; len(f.times) != 1 {
				t.Errorf("%s: %d dials", closing, len(f.times))
			}
		})
	}
}

func TestResumableIsSaid(t *testing.T) {
	f := accepting(func(p *peer) { p.say("1") })
	s := &spoken{resumes: true, receive: func(*spoken, string) (dialect.Received, error) { return received("1"), errors.New("over") }}
	settings := speaking(t, s, SourceSettings{})
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		settings.From = "ws://legacy/feed"
		conn, err := expanded(t, compiled(t, settings), "/").Source(quietLog).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		emitted := ""
		err = conn.Run(t.Context(), func(ms []translate.Message) error { emitted += write(ms); return nil })
		var retry *Retry
		if !errors.As(err, &retry) || !retry.Resumes || emitted != "1" {
			t.Errorf("%v behind %q", err, emitted)
		}
	})
}

// What came on a connection that never was ready goes out before what the next one says, if that can go on from there;
// else it is lost, and nothing goes on, whatever the next one says.
func TestAFailedOpening(t *testing.T) {
	for resumes, want := range map[bool]string{
		true:  "true early | failed | false early | true early",
		false: "true early | failed | false early | true early",
	} {
		t.Run(fmt.Sprint(resumes), func(t *testing.T) { failOpening(t, resumes, want) })
	}
}

func failOpening(t *testing.T, resumes bool, want string) {
	f := accepting(nil)
	f.talk = func(p *peer) {
		p.say("early")
		if p.n != 2 {
			p.say("ready")
			p.hear()
		}
	}
	s := &spoken{opening: 10 * time.Second, resumes: resumes, receive: func(s *spoken, text string) (dialect.Received, error) {
		if text == "ready" {
			s.timers.Opening = 0
			return dialect.Received{Ready: true, Resumed: true}, nil
		}
		return received(text), nil
	}}
	settings := speaking(t, s, SourceSettings{})
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		settings.From = "ws://legacy/feed"
		source := expanded(t, compiled(t, settings), "/").Source(quietLog)
		var got []string
		for range 4 {
			conn, err := source.Connect(t.Context())
			if err != nil {
				got = append(got, "failed")
				continue
			}
			said := fmt.Sprint(conn.Resumed())
			ctx, stop := context.WithCancel(t.Context())
			conn.Run(ctx, func(ms []translate.Message) error { said += " " + write(ms); stop(); return nil })
			got = append(got, said)
		}
		if strings.Join(got, " | ") != want {
			t.Errorf("%q, want %s", got, want)
		}
	})
}

// What was said before the end counts, also when the end comes before the session is ready.
func TestFinishedWhileOpening(t *testing.T) {
	f := accepting(func(p *peer) { p.say("1", "2", "end"); p.hear(); p.hear() })
	s := &spoken{opening: 10 * time.Second, receive: func(_ *spoken, text string) (dialect.Received, error) {
		if text == "end" {
			return received("last"), translate.ErrFinished
		}
		return received(text), nil
	}}
	subscribed(t, speaking(t, s, SourceSettings{}), f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		k.expect("0s 1 2 last")
		if err := k.end(); !errors.Is(err, translate.ErrFinished) {
			t.Error(err)
		}
	})
}

// Timers may change with every message, and a ping that was not answered ends the connection.
func TestTimersChange(t *testing.T) {
	f := accepting(func(p *peer) {})
	f.talk = func(p *peer) {
		p.say("slow")
		time.Sleep(3 * time.Second)
		p.say("every")
		f.listen(p)
	}
	s := &spoken{receive: func(s *spoken, text string) (dialect.Received, error) {
		s.timers.Every = time.Hour
		if text == "every" {
			s.timers.Every = 2 * time.Second
		}
		return received(text), nil
	}}
	subscribed(t, speaking(t, s, SourceSettings{}), f, func(t *testing.T, k *taking) {
		time.Sleep(9500 * time.Millisecond)
		f.expect(t, "5s ping 1", "7s ping 2", "9s cut")
		k.expect("0s slow", "3s every", "9s lost: no answer to the ping")
	})
}

// Silence is of messages: pongs are no sign that the service behind the WebSocket lives.
func TestSilence(t *testing.T) {
	f := accepting(nil)
	f.talk = func(p *peer) {
		gone := make(chan struct{})
		go func() { defer close(gone); p.hearAll() }() // ends with the connection
		for range 3 {
			time.Sleep(4 * time.Second)
			p.say("x")
		}
		<-gone
	}
	s := &spoken{receive: func(s *spoken, text string) (dialect.Received, error) {
		s.timers.Silence = 5 * time.Second
		return received(text), nil
	}}
	subscribed(t, speaking(t, s, SourceSettings{Idle: 2 * time.Second}), f, func(t *testing.T, k *taking) {
		time.Sleep(17500 * time.Millisecond)
		k.expect("4s x", "8s x", "12s x", "17s lost: no message came for as long as the dialect allows (5s)")
	})
}

func (p *peer) hearAll() {
	for {
		if what := p.hear(); what == "cut" || strings.HasPrefix(what, "closed") {
			return
		}
	}
}

// Where messages are pieces of a byte stream, one that is left out is the end of the connection.
func TestSkippedMayEndTheConnection(t *testing.T) {
	f := accepting(func(p *peer) { p.say("1", strings.Repeat("x", 101), "2"); p.hear(); p.hear() })
	s := &spoken{skipped: errors.New("the framing is lost")}
	subscribed(t, speaking(t, s, SourceSettings{MaxMessage: 100}), f, func(t *testing.T, k *taking) {
		time.Sleep(500 * time.Millisecond)
		k.expect("0s 1", "0s gap upstream", "0s lost: the framing is lost")
	})
}

// A byte stream is read in pieces, however large its messages are, and nothing of it is left out.
func TestByteStreams(t *testing.T) {
	text := strings.Repeat("0123456789", 30_000)
	f := accepting(func(p *peer) { p.say("hello", "begin ", text, "", " end"); p.hear() })
	var got strings.Builder
	s := &spoken{opening: 10 * time.Second, receive: func(s *spoken, text string) (dialect.Received, error) {
		if text == "hello" {
			s.timers.Opening = 0
			return dialect.Received{Ready: true}, nil
		}
		if len(text) > pieceSize {
			t.Errorf("a piece of %d bytes", len(text))
		}
		got.WriteString(text)
		if strings.HasSuffix(text, "end") {
			return received("whole"), nil
		}
		return dialect.Received{}, nil
	}}
	settings := speaking(t, s, SourceSettings{MaxMessage: 100})
	dialect.Table[len(dialect.Table)-1].Stream = true
	subscribed(t, settings, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		k.expect("0s whole")
		if got.String() != "begin "+text+" end" {
			t.Errorf("%d bytes came", got.Len())
		}
	})
}

func TestDialectSettings(t *testing.T) {
	speaking(t, new(spoken), SourceSettings{})
	d := &dialect.Table[len(dialect.Table)-1]
	d.Required = true
	d.Check = func(connect string, lines []string) error {
		if connect != `{"a":"0"}` || len(lines) != 1 || lines[0] != `t/0 {"x":0}` {
			t.Errorf("checked %q and %q", connect, lines)
		}
		return errors.Join(&dialect.CheckError{Setting: "CONNECT", Problem: "c"}, &dialect.CheckError{Setting: "SUBSCRIBE", Problem: "s"})
	}
	for _, test := range []struct {
		s    SourceSettings
		want string
	}{
		{SourceSettings{Protocol: "spoken", From: "ws://legacy", Connect: `{"a":"{query.a}"}`, Subscribe: `t/{query.b} {"x":{query.c}}`}, "CONNECT: c\nSUBSCRIBE: s"},
		{SourceSettings{Protocol: "spoken", From: "ws://legacy"}, "SUBSCRIBE: spoken needs to know what to subscribe to; write one subscription per line"},
		{SourceSettings{Protocol: "spoken", From: "http://legacy", Subscribe: "x"}, "PROTOCOL: spoken is spoken over WebSockets, but FROM polls; begin FROM with ws:// or wss://, or unset PROTOCOL"},
		{SourceSettings{From: "ws://legacy", Subscribe: "x", Connect: "x"}, "CONNECT: raw has no connection payload; unset it\n" +
			"SUBSCRIBE: raw has no subscriptions of its own; unset it, and write what to send in HELLO"},
	} {
		if _, err := Compile(test.s); err == nil || err.Error() != test.want {
			t.Errorf("%+v: %v, want %s", test.s, err, test.want)
		}
	}
}

func TestTopics(t *testing.T) {
	rt := compiled(t, speaking(t, new(spoken), SourceSettings{From: "ws://legacy",
		Subscribe: "{query.whole}\nrooms/{query.room}/x {\"n\":{query.n},\"s\":\"{query.s}\"}"}))
	lines := func(query string) (string, error) {
		q, err := rt.Expand(newGet("/?"+query), func(string) string { return "" })
		if err != nil {
			return "", err
		}
		var out []string
		for _, line := range q.texts("SUBSCRIBE") {
			text, err := line.Fill(func(string) string { return "" })
			if err != nil {
				return "", err
			}
			out = append(out, text)
		}
		return strings.Join(out, "|"), nil
	}
	got, err := lines("whole=a/b&room=7&n=1&s=%22%2b%23/%20")
	if want := `a/b|rooms/7/x {"n":1,"s":"\"+#/ "}`; got != want || err != nil {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, query := range []string{"whole=a/%23", "whole=%2b", "whole=a*", "whole=>", "whole=a%20b", "whole=a%0ab", "whole=a%00",
		"room=a/b&whole=a", "room=%23&whole=a", "room=a%20{}&whole=a", "room=%e2%80%a8x&whole=a", "n=x&whole=a", "whole=%ff"} {
		if got, err := lines(query + "&room=7&n=1&s=x"); err == nil {
			t.Errorf("%s became %s", query, got)
		}
	}
}

// A method's name cannot become its arguments, with or without the word before it.
func TestPlacesInMethods(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://legacy", Protocol: "signalr", Subscribe: "{query.m} [{query.n}]\nstream {query.m}\nstream  X{query.m}Y  [\"{query.s}\",{query.n}]"})
	fill := func(method string) (lines []string, err error) {
		address := "/?" + url.Values{"m": {method}, "n": {"7"}, "s": {`a "b" [c]`}}.Encode()
		q, err := rt.Expand(httptest.NewRequest("GET", address, nil), func(string) string { return "" })
		if err != nil {
			return nil, err
		}
		for _, text := range q.texts("SUBSCRIBE") {
			line, err := text.Fill(func(string) string { return "" })
			if err != nil {
				return nil, err
			}
			lines = append(lines, line)
		}
		return lines, nil
	}
	want := []string{"Join [7]", "stream Join", `stream  XJoinY  ["a \"b\" [c]",7]`}
	if got, err := fill("Join"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"Join [1]", "a/b", "a b", "a\tb"} {
		if got, err := fill(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

// TestOneClientID: streams that are not shared must not throw each other out, nor take over each other's session.
func TestOneClientID(t *testing.T) {
	const named, apart = `{"clientId":"c"}`, `{"clientId":"c-{query.user}"}`
	for _, test := range []struct {
		connect string
		s       SourceSettings
		ok      bool
	}{
		{named, SourceSettings{Subscribe: "a"}, true},
		{named, SourceSettings{Subscribe: "users/{query.user}/#"}, false},
		{apart, SourceSettings{Subscribe: "users/{query.user}/#"}, true},
		{"", SourceSettings{Subscribe: "users/{query.user}/#"}, true},
		{named, SourceSettings{Subscribe: "a", Forward: []string{"Cookie"}}, false},
		{named, SourceSettings{Subscribe: "a", Session: true}, false},
	} {
		test.s.Protocol, test.s.From, test.s.Connect = "mqtt", "ws://legacy", test.connect
		_, err := Compile(test.s)
		if (err == nil) != test.ok || !test.ok && !strings.Contains(err.Error(), "CONNECT: the clientId is the same") {
			t.Errorf("%+v: %v", test.s, err)
		}
	}
}
