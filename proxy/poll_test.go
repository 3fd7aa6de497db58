package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"sidestream/proxy/deliver"
)

// A long poll on a route: it shares the stream with those who stream, its parameter goes nowhere, and a page that has to poll is counted.
func TestLongPoll(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?{query}")
	live := s.get(t, "/a?k=1")
	place := live.wantOpen(t)
	f.publish(t, "k=1", "one")
	one := live.wantData(t, "one")

	poll := s.get(t, "/a?poll=1&k=1", "Last-Event-ID: "+place)
	if text, err := poll.rest(); err != io.EOF || text != "data: one\nid: "+one.id+"\n\n" || poll.ContentLength != int64(len(text)) {
		t.Errorf("%q %v, %d bytes", text, err, poll.ContentLength)
	}
	first := s.get(t, "/a?k=1&poll=held")
	if text, err := first.rest(); err != io.EOF || text != "event: stream.open\ndata: {}\nid: "+one.id+"\n\n" {
		t.Errorf("%q %v", text, err)
	}
	done := make(chan string)
	req, _ := http.NewRequest("GET", "http://"+s.addr+"/a?k=1&poll=1", nil)
	req.Header = http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {one.id}}
	go func() { // ends with the answer
		var text []byte
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			text, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		done <- string(text)
	}()
	eventually(t, "the poll to wait", func() bool { return s.ClientsByWriter()[deliver.ByPoll] == 1 })
	f.publish(t, "k=1", "two")
	if text := <-done; !strings.HasPrefix(text, "data: two\n") {
		t.Errorf("%q", text)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d upstream connections", n)
	}
	if n := s.Routes()[0].HeldBack.Load(); n != 1 {
		t.Errorf("%d pages counted", n)
	}
	s.get(t, "/a?k=1&poll=2").wantOpen(t)
	eventually(t, "another value of poll to be the upstream's", func() bool { return f.dials.Load() == 2 })
}
