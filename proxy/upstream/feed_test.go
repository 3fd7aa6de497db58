package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// gateway is a feed that numbers what it says, and goes on after a number that it is given.
func gateway(resumes func(p *peer) bool) *feed {
	f := &feed{}
	f.talk = func(p *peer) {
		p.say(`{"op":"hi","session":"s` + fmt.Sprint(p.n) + `"}`)
		asked := p.hear()
		f.note(asked)
		if strings.Contains(asked, "resume") && !resumes(p) {
			return
		}
		p.say(`{"op":"ready"}`, fmt.Sprintf(`{"seq":%d}`, p.n))
	}
	return f
}

var gatewaySettings = SourceSettings{
	State: `(select(.seq?) | {seq}), (select(.session?) | {session})`, Hello: `< .op == "hi"` + "\n" + `= if $state.seq then "resume \($state.seq)" else "begin" end` + "\n" + `< .op == "ready"`,
	Resumed: `.op == "replayed"`, Select: `select(.seq?)`, Headers: "X-Session: {state.session:none}", From: "ws://legacy/{state.seq:0}",
}

// A connection that is new drops what belonged to the last one.
func TestEarlyMessagesAreDroppedWithTheirState(t *testing.T) {
	s := gatewaySettings
	s.Close = "4009=new"
	f := gateway(nil)
	talk := f.talk
	f.talk = func(p *peer) {
		if p.n != 2 {
			talk(p)
			return
		}
		p.say(`{"op":"hi"}`)
		f.note(p.hear())
		p.say(`{"seq":50}`)
		p.Close(4009, "secret")
	}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(2500 * time.Millisecond)
		f.expect(t, "0s begin", "1s resume 1", "2s begin")
		if got := strings.Join(k.texts(), " | "); strings.Contains(got, "50") || !strings.Contains(got, "closed by the upstream with code 4009") || strings.Contains(got, "secret") {
			t.Error(got)
		}
	})
}

func TestResumedIsSaid(t *testing.T) {
	for _, replays := range []bool{true, false} {
		f := gateway(func(p *peer) bool {
			if replays {
				p.say(`{"op":"replayed"}`)
			}
			return true
		})
		s := gatewaySettings
		s.From = "ws://legacy/"
		bubble(t, f.ServeHTTP, func(t *testing.T) {
			source := expanded(t, compiled(t, s), "/").Source(quietLog)
			for i, want := range []bool{false, replays, replays} {
				conn, err := source.Connect(t.Context())
				if err != nil || conn.Resumed() != want {
					t.Fatalf("connection %d: resumed %v, %v", i, conn.Resumed(), err)
				}
				err = conn.Run(t.Context(), func([]translate.Message) error { return nil })
				var retry *Retry
				if !errors.As(err, &retry) || !retry.Resumes {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
}

func TestPingOfTheUpstreamsInterval(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) {
		f.note("begin")
		time.Sleep(time.Second)
		p.say(`{"interval":4000}`)
		for range 2 {
			f.note(p.hear())
			p.say(`{"pong":1}`)
		}
		p.say(`{"interval":2000}`)
		f.listen(p)
	}
	s := SourceSettings{State: "select(.interval) | {interval}", Ping: `{"beat":{state.interval}}`, PingProgram: "state.interval", Pong: ".pong"}
	s.Ping = `{"beat":{state.interval:0}}`
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(14 * time.Second)
		// The interval of the last connection holds until the next one has its own.
		f.expect(t, "0s begin", `5s {"beat":4000}`, `9s {"beat":4000}`, `11s {"beat":2000}`, "13s cut", "14s begin")
		k.expect(`1s {"interval":4000}`, `9s {"interval":2000}`, "13s lost: no message matched PONG since the last PING", "14s ")
	})
}

func TestCloseCodesOfTheRoute(t *testing.T) {
	f := &feed{talk: func(p *peer) { p.Close(websocket.StatusCode(4000+p.n), "bye") }}
	subscribed(t, SourceSettings{Close: "4002=refused:401"}, f, func(t *testing.T, k *taking) {
		time.Sleep(1500 * time.Millisecond)
		k.expect("0s lost: closed by the upstream with code 4001")
		var refused *translate.Refused
		if err := k.end(); !errors.As(err, &refused) || refused.Status != 401 {
			t.Error(err)
		}
	})
	subscribed(t, SourceSettings{Close: "4001=finished"}, f, func(t *testing.T, k *taking) {
		synctest.Wait()
		if err := k.end(); !errors.Is(err, translate.ErrFinished) {
			t.Error(err)
		}
	})
}

// A ticket is asked for before each dial with the route's credentials, which do not go where it leads.
func TestTicket(t *testing.T) {
	answers := []string{`{"url":"ws://elsewhere/link/1"}`, `{"url":"ws://legacy/link/2"}`, `{}`, `{"url":false}`}
	f := &feed{talk: func(p *peer) { p.say("1") }}
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/open" {
			f.note(r.Host + r.URL.Path + " " + r.Header.Get("Authorization") + r.Header.Get("X-Client") + " " + r.Header.Get("Origin"))
			return false
		}
		f.note(r.Method + " " + r.Host + " " + r.Header.Get("Authorization") + r.Header.Get("X-Client") + " " + r.URL.RawQuery + r.Header.Get("Origin"))
		io.WriteString(w, answers[0])
		answers = answers[1:]
		return true
	}
	s := SourceSettings{Ticket: "http://api/open?a={query.a:7}", Dial: ".url", Headers: "Authorization: k\nHost: named"}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(4 * time.Second)
		f.expect(t, "0s POST api k a=7", "0s elsewhere/link/1  http://legacy",
			"1s POST api k a=7", "1s named/link/2 k http://legacy",
			"2s POST api k a=7", "2s named/feed k http://legacy",
			"3s POST api k a=7")
		var refused *translate.Refused
		if err := k.end(); !errors.As(err, &refused) || refused.Status != 401 {
			t.Error(err)
		}
	})
}

func TestTicketsVerdicts(t *testing.T) {
	for status, refused := range map[int]bool{401: true, 403: true, 429: false, 503: false} {
		f := &feed{refuse: func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(status); return true }}
		subscribed(t, SourceSettings{Ticket: "GET http://legacy/open?token=secret", Dial: ".url"}, f, func(t *testing.T, k *taking) {
			synctest.Wait()
			var verdict *translate.Refused
			if err := k.end(); errors.As(err, &verdict) != refused || strings.Contains(err.Error(), "secret") {
				t.Errorf("%d: %v", status, err)
			}
		})
	}
}

func TestTicketIsTheStreamsIdentity(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://legacy", Ticket: "http://legacy/{query.a}?b={query.b:}", Dial: ".url"})
	if got := strings.Join(rt.Needs(), " "); got != "{query.a} {query.b}" {
		t.Errorf("it needs %s", got)
	}
	one, two := expanded(t, rt, "/?a=1"), expanded(t, rt, "/?a=2")
	if one.Key == two.Key {
		t.Error("two tickets, one stream")
	}
	if _, err := rt.Expand(newGet("/?a=.."), func(string) string { return "" }); err == nil {
		t.Error("a ticket's path climbs")
	}
}

// The state is hostile: it is filled in once, and stays in its field. It is no part of a stream's identity.
func TestStateStaysInItsField(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) {
		if p.n == 1 && p.hear() != "" {
			p.say(`{"v":"a\r\n\"/?&{state.v}{query.x}","n":"1,\"x\":2"}`, `"next"`)
			return
		}
		f.listen(p)
	}
	s := SourceSettings{From: "ws://legacy/{state.v:x}?q={state.v:}", State: "objects", Hello: `{"v":"{state.v}"}`}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(1500 * time.Millisecond)
		f.expect(t, `1s {"v":"a\r\n\"/?\u0026{state.v}{query.x}"}`)
		if got := f.requests[len(f.requests)-1].RequestURI; got != "/a%0D%0A%22%2F%3F&%7Bstate.v%7D%7Bquery.x%7D?q=a%0D%0A%22%2F%3F%26%7Bstate.v%7D%7Bquery.x%7D" {
			t.Errorf("dialled %s", got)
		}
	})
	for why, s := range map[string]SourceSettings{
		"contains a character that a header cannot": {Headers: "X-V: {state.v:}"},
		"in JSON outside a string":                  {Hello: `{"n":{state.n:0}}`},
		"is empty, . or ..":                         {From: "ws://legacy/{state.dot:x}"},
	} {
		f.talk = func(p *peer) {
			if s.Hello != "" {
				f.note(p.hear())
			}
			p.say(`{"v":"a\r\nX-W: 1","n":"1,\"x\":2","dot":".."}`)
		}
		s.State = "objects"
		subscribed(t, s, f, func(t *testing.T, k *taking) {
			time.Sleep(1500 * time.Millisecond)
			got := k.texts()
			if s.Hello == "" && len(f.requests) != 1 || len(got) == 0 || !strings.Contains(got[len(got)-1], why) || strings.Contains(got[len(got)-1], "X-W") {
				t.Errorf("%s: %d dials, %q", why, len(f.requests), got)
			}
			if s.Hello != "" {
				f.expect(t, `0s {"n":0}`, "1s cut")
			}
		})
	}
	rt := compiled(t, SourceSettings{From: "ws://legacy/?{state.a}", State: "."})
	if !rt.Shared() || expanded(t, rt, "/").Key == expanded(t, compiled(t, SourceSettings{From: "ws://legacy/?{state.b}", State: "."}), "/").Key {
		t.Error("the state's names, not its values, are the identity")
	}
}

func TestFeedProblems(t *testing.T) {
	for name, test := range map[string]struct {
		s             SourceSettings
		setting, want string
	}{
		"state that nobody sets": {SourceSettings{Hello: "{state.id}"}, "HELLO", "{state.id} is filled in by STATE"},
		"state without default":  {SourceSettings{State: ".", From: "ws://h/{state.id}"}, "FROM", "is empty at first"},
		"state as a host":        {SourceSettings{State: ".", From: "ws://{state.id}/"}, "FROM", "is not allowed here"},
		"resumed without state":  {SourceSettings{Resumed: ".", Hello: "< ."}, "RESUMED", "set STATE"},
		"resumed without wait":   {SourceSettings{Resumed: ".", State: ".", Hello: "x"}, "RESUMED", "waits (< jq)"},
		"interval without ping":  {SourceSettings{PingProgram: "$state.x", State: "."}, "PING_EVERY", "set PING and STATE"},
		"interval without state": {SourceSettings{PingProgram: "$state.x", Ping: "x"}, "PING_EVERY", "set PING and STATE"},
		"interval of no program": {SourceSettings{PingProgram: "often", Ping: "x", State: "."}, "PING_EVERY", "is not a jq program"},
		"pong without ping":      {SourceSettings{Pong: "."}, "PONG", "set it, or unset PONG"},
		"made of nothing":        {SourceSettings{Hello: "="}, "HELLO", "a jq program is missing after ="},
		"made of what is no jq":  {SourceSettings{Hello: "= .a |"}, "HELLO", "is not a jq program"},
		"ticket without reader":  {SourceSettings{Ticket: "http://h/"}, "TICKET", "set DIAL"},
		"ticket's scheme":        {SourceSettings{Ticket: "ws://h/", Dial: "."}, "TICKET", "is not an address to request"},
		"ticket's host":          {SourceSettings{Ticket: "http:///x", Dial: "."}, "TICKET", "is not an address to request"},
		"ticket's placeholder":   {SourceSettings{Ticket: "http://{query.h}/x", Dial: "."}, "TICKET", "is not allowed here"},
		"ticket's method":        {SourceSettings{Ticket: "get http://h/", Dial: "."}, "TICKET", "something other than a method"},
		"dial of nothing":        {SourceSettings{Dial: "."}, "DIAL", "neither is set"},
		"codes":                  {SourceSettings{Close: "1=new"}, "CLOSE", "1000 to 4999"},
		"separator's escape":     {SourceSettings{Separator: `\q`}, "SEPARATOR", "an escape that Go does not have"},
		"separator's length":     {SourceSettings{Separator: "123456789"}, "SEPARATOR", "longer than 8 bytes"},
		"ticket elsewhere":       {SourceSettings{Ticket: "http://h/", Protocol: "spoken"}, "TICKET", "is for PROTOCOL=raw"},
		"dial elsewhere":         {SourceSettings{Dial: ".", Protocol: "spoken"}, "DIAL", "is for PROTOCOL=raw"},
		"separator elsewhere":    {SourceSettings{Separator: ".", Protocol: "spoken"}, "SEPARATOR", "is for PROTOCOL=raw"},
	} {
		if test.s.From == "" {
			test.s.From = "ws://h/"
		}
		if test.s.Protocol != "" {
			test.s = speaking(t, new(spoken), test.s)
		}
		_, err := Compile(test.s)
		var bad *SettingError
		if !errors.As(err, &bad) || bad.Setting != test.setting || !strings.Contains(bad.Problem, test.want) {
			t.Errorf("%s: %v, want %s %s", name, err, test.setting, test.want)
		}
	}
}

func TestSeparatorEscapes(t *testing.T) {
	for text, want := range map[string]string{`\n`: "\n", `\x1e`: "\x1e", "|": "|", `\r\n`: "\r\n", `\x00`: "\x00", "\"": "\"", "é": "é", `\xff`: "\xff"} {
		if rt := compiled(t, SourceSettings{From: "ws://h/", Separator: text}); rt.separator != want {
			t.Errorf("%s: %q", text, rt.separator)
		}
	}
}
