package learn_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/migrate"
	"sidestream/proxy/migrate/learn"
)

// get is a request as it passes through.
func get(target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, line := range headers {
		name, v, _ := strings.Cut(line, ": ")
		r.Header.Set(name, v)
	}
	return r
}

var isJSON = http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Set-Cookie": {"who=1; HttpOnly", "ui=2"}}

// TestLearnerPolls learns a poll of what passes through, of a client among others.
func TestLearnerPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := learn.New(base, "")
		for i := range 6 {
			for _, user := range []string{"a", "b"} {
				body := l.Answered(get("/api/orders", "Cookie: who=PLANTED"+user+"; ui=2; _ga=3", "Authorization: Bearer PLANTED", "X-Requested-With: XMLHttpRequest"), 200, isJSON)
				body(migrate.Body{Data: fmt.Appendf(nil, `{"n":%d}`, i), Size: 7})
			}
			if l.Answered(get("/style.css"), 200, http.Header{"Content-Type": {"text/css"}}) != nil || l.Answered(get("/api/none"), 404, isJSON) != nil {
				t.Fatal("what is no poll is listened to")
			}
			_ = l.Answered(get("/api/orders"), 200, isJSON) // whose end never comes
			time.Sleep(3 * time.Second)
		}
		r := l.Report()
		load(t, r.Env)
		has(t, one(t, r), "EVERY=3s", "HEADERS=Cookie: who={cookie.who}\nX-Requested-With: XMLHttpRequest", "FORWARD=Authorization")
		if strings.Contains(r.Env, "PLANTED") || r.Routes[0].Seen != 12 {
			t.Error(r.Env)
		}
	})
}

// TestLearnerKeeps checks which messages are kept of a conversation that is long.
func TestLearnerKeeps(t *testing.T) {
	l := learn.New(base, "")
	h := l.Upgraded(get("/ws"), nil)
	at := begin
	tell := func(fromClient bool, text string) {
		at = at.Add(10 * time.Millisecond)
		h.Hear(migrate.Message{At: at, FromClient: fromClient, Data: []byte(text)})
	}
	for i := range 900 {
		tell(false, fmt.Sprintf(`{"type":"tick","n":%d}`, i))
		if i%300 == 299 {
			tell(false, fmt.Sprintf(`{"type":"ping","id":%d}`, i))
			tell(false, `{"type":"tick"}`)
			tell(true, fmt.Sprintf(`{"type":"pong","id":%d}`, i))
		}
	}
	h.Closed(1000)
	o := l.Observe()
	if n := len(o.Conversations[0].Frames); n > 130 || o.Conversations[0].Received != 906 || o.Messages != 909 {
		t.Errorf("%d of %d messages are kept", n, o.Conversations[0].Received)
	}
	has(t, one(t, l.Report()), `REPLY=select(.type=="ping")|{"type":"pong","id":.id}`)
}

// TestLearnerBounds floods a learner, and looks at what it keeps.
func TestLearnerBounds(t *testing.T) {
	l := learn.New(base, "")
	large := bytes.Repeat([]byte("x"), 10<<10)
	listened := 0
	for path := range 300 {
		for range 18 {
			h := l.Upgraded(get(fmt.Sprintf("/ws/p%cq%cr%c", 'a'+path%26, 'a'+path/26%26, 'a'+path/676)), nil)
			if h == nil {
				continue
			}
			listened++
			for i := range 30 {
				h.Hear(migrate.Message{At: begin, FromClient: i%2 == 0, Data: large})
			}
			h.Hear(migrate.Message{At: begin, Data: bytes.Repeat(large, 8)})
		}
	}
	body := append([]byte("{"), bytes.Repeat([]byte("x"), 40<<10)...)
	for path := range 300 {
		for client := range 5 {
			for range 30 {
				if f := l.Answered(get(fmt.Sprintf("/api/p%cq%cr%c", 'a'+path%26, 'a'+path/26%26, 'a'+path/676), fmt.Sprintf("User-Agent: %d", client)), 200, isJSON); f != nil {
					f(migrate.Body{Data: body, Size: len(body)})
				}
			}
		}
	}
	o := l.Observe()
	kept := 0
	for _, c := range o.Conversations {
		for _, f := range c.Frames {
			kept += len(f.Data)
		}
	}
	for _, a := range o.Answers {
		kept += len(a.Data)
	}
	if kept > 16<<20 || kept < 8<<20 || !o.Full || listened > 256*16 || len(o.Answers) > 256*4*24 {
		t.Errorf("%d bytes are kept of %d WebSockets and %d answers, full: %v", kept, listened, len(o.Answers), o.Full)
	}
	if l.Upgraded(get("/"+strings.Repeat("x", 3<<10)), nil) != nil {
		t.Error("a path of 3 KiB is kept")
	}
}

// TestLearnerForgets checks that GETs that were asked once make room for others.
func TestLearnerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := learn.New(base, "")
		ask := func(path string) bool {
			f := l.Answered(get(path), 200, isJSON)
			if f != nil {
				f(migrate.Body{Data: []byte(`{"n":1}`)})
			}
			return f != nil
		}
		for i := range 256 {
			ask(fmt.Sprintf("/api/p%cq%c", 'a'+i%26, 'a'+i/26))
		}
		if ask("/api/more") {
			t.Error("there is room for more paths than are kept")
		}
		time.Sleep(2 * time.Minute)
		if !ask("/api/more") {
			t.Error("nothing was forgotten")
		}
	})
}

// TestLearnerInflated checks that compressed WebSockets are heard to the end once a path.
func TestLearnerInflated(t *testing.T) {
	l := learn.New(base, "")
	deflate := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; server_no_context_takeover"}}
	var heard []int
	for range 3 {
		h := l.Upgraded(get("/ws"), deflate)
		n := 0
		for ; n < 5000 && !h.(migrate.Sated).Enough(false); n++ {
			h.Hear(migrate.Message{At: begin, Data: []byte(`{"n":1}`)})
		}
		if h.(migrate.Sated).Enough(true) {
			t.Error("the client is not heard any more")
		}
		heard = append(heard, n)
	}
	if fmt.Sprint(heard) != "[1000 64 64]" {
		t.Errorf("%v messages were heard", heard)
	}
}

// TestLearnerAtOnce has everything happen at once, for the race detector.
func TestLearnerAtOnce(t *testing.T) {
	l := learn.New(base, "")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			h := l.Upgraded(get("/ws"), nil)
			for n := range 200 {
				h.Hear(migrate.Message{At: begin, FromClient: n%3 == 0, Data: []byte(`{"n":1}`)})
				if f := l.Answered(get("/api/x", fmt.Sprintf("User-Agent: %d", i)), 200, isJSON); f != nil {
					f(migrate.Body{Data: []byte(`{"n":1}`)})
				}
			}
			h.Closed(1000)
		})
		all.Go(func() { _ = l.Report() })
	}
	all.Wait()
	if r := learn.Conclude(l.Observe(), nil); r.Seen.WebSockets != 8 { // a report may be some time old
		t.Errorf("%+v", r.Seen)
	}
}
