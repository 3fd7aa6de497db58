package deliver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// bytesOf is all that a client of h gets whose request has these further lines, until it has so many bytes.
func bytesOf(t *testing.T, h *harbour, fields string, n int) string {
	t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", fields)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	n, _ = io.ReadFull(resp.Body, got)
	return string(got[:n])
}

// TestOpenTellsThePlace: a client that comes without an id, and for which there is no event, gets one with which it misses nothing,
// whichever way it came and whatever ids the upstream gives.
func TestOpenTellsThePlace(t *testing.T) {
	for _, fields := range []string{"", "Te: trailers\r\n"} { // past net/http, and by it
		h := newHarbour(t, stream.Bounds{}, time.Hour)
		h.append(translate.Message{ID: "theirs", Data: []byte("before")})
		open := "event: stream.open\ndata: {}\nid: " + h.ring.Place(1) + "\n\n"
		retry, rest, _ := strings.Cut(bytesOf(t, h, fields, len("retry: 1000\n")+len(open)), "\n")
		if rest != open || !strings.HasPrefix(retry, "retry: ") {
			t.Fatalf("%q: got %q after %q, want %q", fields, rest, retry, open)
		}
		h.append(say("between"))
		want := "data: between\nid: " + h.ring.Place(2) + "\n\n"
		_, rest, _ = strings.Cut(bytesOf(t, h, fields+"Last-Event-ID: "+h.ring.Place(1)+"\r\n", len("retry: 1000\n")+len(want)), "\n")
		if rest != want {
			t.Errorf("%q: a client that comes back got %q, want %q", fields, rest, want)
		}
	}
}

// TestNoOpenWhereAnEventTellsThePlace: an event at once, a gap, or an id that the client has, is a place already.
func TestNoOpenWhereAnEventTellsThePlace(t *testing.T) {
	for name, c := range map[string]struct{ fields, want string }{
		"event": {"", "data: 2\nid: %s-2\n\n"},
		"gap":   {"Last-Event-ID: unknown\r\n", "event: stream.gap\ndata: {\"reason\":\"restart\",\"missed\":null}\nid: %s-1\n\n"},
		"id":    {"Last-Event-ID: %s-2\r\n", ":\n:\n"},
	} {
		for _, more := range []string{"", "Te: trailers\r\n"} {
			h := newHarbour(t, stream.Bounds{Start: 1}, 20*time.Millisecond)
			h.append(say("1"), say("2"))
			want := strings.ReplaceAll(c.want, "%s", h.ring.Epoch().String())
			got := bytesOf(t, h, strings.ReplaceAll(c.fields, "%s", h.ring.Epoch().String())+more, len("retry: 1000\n")+len(want))
			if _, rest, _ := strings.Cut(got, "\n"); rest != want {
				t.Errorf("%s: got %q, want %q", name, rest, want)
			}
		}
	}
}

// TestOpenWaitsForTheHistory: until a list's history is in there is no place to tell.
func TestOpenWaitsForTheHistory(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, 20*time.Millisecond)
	h.ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), true)
	c, in := h.open("1.1", "")
	defer c.Close()
	lines := func(n int) (got string) {
		for range n {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			got += line
		}
		return got
	}
	if got := lines(3); !strings.HasSuffix(got, "\n:\n:\n") {
		t.Fatalf("before the history: %q", got)
	}
	h.append(say("old"))
	got := ""
	for !strings.HasSuffix(got, "\n\n") {
		if line := lines(1); line != ":\n" {
			got += line
		}
	}
	if want := "event: stream.open\ndata: {}\nid: " + h.ring.Place(1) + "\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRetiredTellsThePlaceToo: the last client of a stream that is being replaced comes back.
func TestRetiredTellsThePlaceToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.lastID = ""
		b.ring.Close(stream.End{Kind: stream.Retired})
		r := b.connect()
		<-r.done
		if got := r.take(); len(got) != 5 || got[1].text != "event: stream.open" || got[3].text != "id: "+b.ring.Place(0) {
			t.Errorf("got %v", got)
		}
		b.close()
	})
}

func beatsIn(lines []string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, "stream.heartbeat") {
			n++
		}
	}
	return n
}

// TestFirstHeartbeatEventDoesNotWaitForSilence: it is a client's word that heartbeats come at all.
func TestFirstHeartbeatEventDoesNotWaitForSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.beats = true
		r := b.connect()
		for n := range 11 {
			b.ring.Append(say(strconv.Itoa(n)))
			pass(100 * time.Millisecond)
		}
		var lines []string
		for _, l := range r.take() {
			lines = append(lines, l.text)
		}
		if n := beatsIn(lines); n != 1 {
			t.Errorf("%d heartbeats in a busy second", n)
		}
		r.Close()
		b.close()
	})
}

const (
	safari  = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15"
	chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
)

func TestLooksNative(t *testing.T) {
	for _, c := range []struct {
		control, agent string
		want           bool
	}{
		{"no-cache", "", true}, // npm eventsource 2
		{"no-cache", "node", true},
		{" No-Cache ", safari, true},
		{"no-cache", chrome, false},
		{"no-cache", firefox, false},
		{"", safari, false},
		{"max-age=0", safari, false},
		{"no-store", "", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cache-Control", c.control)
		r.Header.Set("User-Agent", c.agent)
		if got := looksNative(r); got != c.want {
			t.Errorf("%q of %q: %v", c.control, c.agent, got)
		}
	}
}

// TestEnding: a clean end is for those alone who notice no other.
func TestEnding(t *testing.T) {
	for _, c := range []struct {
		major   int
		control string
		agent   string
		dest    string
		want    flags
	}{
		{2, "no-cache", safari, "empty", isClean},
		{2, "no-cache", safari, "", isClean},
		{2, "no-cache", "Shop/3.1 (iPhone)", "empty", isClean}, // an application's WebKit
		{1, "no-cache", safari, "empty", 0},
		{2, "", safari, "empty", 0},
		{2, "no-cache", chrome, "empty", 0},
		{2, "no-cache", "Go-http-client/2.0", "", 0}, // r3labs/sse: it would never come back
		{2, "no-cache", "", "", 0},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.ProtoMajor = c.major
		r.Header.Set("Cache-Control", c.control)
		r.Header.Set("User-Agent", c.agent)
		if c.dest != "" {
			r.Header.Set("Sec-Fetch-Dest", c.dest)
		}
		if got := ending(looksNative(r), r); got != c.want {
			t.Errorf("HTTP/%d, %q of %q: %v", c.major, c.control, c.agent, got)
		}
	}
}

// TestNativeAnswersTakeInHalfAnEvent: whatever is left of the answer before, what comes first completes it as an event that
// no page listens for, with the client's own id.
func TestNativeAnswersTakeInHalfAnEvent(t *testing.T) {
	const native = "Cache-Control: no-cache\r\n"
	for _, more := range []string{"", "Te: trailers\r\n"} { // past net/http, and by it
		h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, time.Hour)
		h.append(say("1"), say("2"))
		for id, cut := range map[string]string{
			h.ring.Place(1): ":\nevent: stream.cut\nid: " + h.ring.Place(1) + "\n\nretry: ",
			"":              ":\nevent: stream.cut\nid:\n\nretry: ",
		} {
			if got := bytesOf(t, h, native+"Last-Event-ID: "+id+"\r\n"+more, len(cut)); got != cut {
				t.Errorf("id %q: got %q, want %q", id, got, cut)
			}
		}
		if got := bytesOf(t, h, more, 7); got != "retry: " {
			t.Errorf("a fetch got %q", got)
		}
	}
}

// TestBusyWhileDraining: clients that come meanwhile are told to come back after the restart, as those are that are released.
func TestBusyWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.clients.restart = 5 * time.Second
		b.clients.Drain(10 * time.Second) // there are none
		pass(4 * time.Second)
		r := b.connect()
		<-r.done
		if retry := retryOf(t, r.take()[0]); retry < 12*time.Second || retry >= 15*time.Second {
			t.Errorf("a retry of %v, 6 s before the end of the window", retry)
		}
		b.close()
	})
}

// Who has sent a POST knows none of the events of the sidecar's own: being full is a status.
func TestBusyIsAStatusForAPost(t *testing.T) {
	w := httptest.NewRecorder()
	rest := Busy(w, httptest.NewRequest("POST", "/", nil), "1-2", 1500*time.Millisecond)
	if cut := rest(); cut || w.Code != 503 || w.Header().Get("Retry-After") != "2" || strings.Contains(w.Body.String(), "event:") {
		t.Errorf("%v %d %v %s", cut, w.Code, w.Header(), w.Body)
	}
}
