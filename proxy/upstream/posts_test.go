package upstream

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/translate/dialect"
)

// longPolls is a Bayeux server over HTTP that holds connects for up to ten seconds.
type longPolls struct {
	mu     sync.Mutex
	asked  []string // "<channel> <connection type or subscription>"
	events chan string
	status int // of everything; 0: 200
	head   http.Header
}

func (l *longPolls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var all []map[string]any
	if r.Method != http.MethodPost || json.Unmarshal(body, &all) != nil || len(all) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m := all[0]
	l.mu.Lock()
	l.asked = append(l.asked, strings.TrimSuffix(fmt.Sprintf("%v %v", m["channel"], cmp.Or(m["connectionType"], m["subscription"])), " <nil>"))
	l.head = r.Header
	status := l.status
	l.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch m["channel"] {
	case "/meta/handshake":
		_, _ = io.WriteString(w, `[{"channel":"/meta/handshake","successful":true,"clientId":"c1","advice":{"timeout":10000,"interval":0}}]`)
	case "/meta/subscribe":
		_, _ = fmt.Fprintf(w, `[{"channel":"/meta/subscribe","successful":true,"subscription":%q}]`, m["subscription"])
	case "/meta/connect":
		select {
		case event := <-l.events:
			_, _ = io.WriteString(w, `[`+event+`{"channel":"/meta/connect","successful":true}]`)
		case <-time.After(10 * time.Second):
			_, _ = io.WriteString(w, `[{"channel":"/meta/connect","successful":true}]`)
		case <-r.Context().Done():
		}
	default:
		_, _ = io.WriteString(w, `[{"channel":"/x","successful":true}]`)
	}
}

func (l *longPolls) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.asked, ", ")
}

var bayeuxSettings = SourceSettings{From: "http://legacy/cometd", Protocol: "bayeux", Subscribe: "/a\n/b", Idle: time.Second, Headers: "X-Key: k"}

func TestLongPolls(t *testing.T) {
	l := &longPolls{}
	bubble(t, l.ServeHTTP, func(t *testing.T) {
		l.events = make(chan string)
		k := start(t, bayeuxSettings)
		time.Sleep(3 * time.Second) // longer than IDLE: a server that holds is no server that is gone
		l.events <- `{"channel":"/a","data":1},{"channel":"/a","data":2},`
		time.Sleep(11 * time.Second)
		l.events <- `{"channel":"/b","data":3},`
		time.Sleep(time.Second)
		k.emitted("3s 1 2", "14s 3")
		k.end()
		time.Sleep(time.Second)
		want := "/meta/handshake, /meta/subscribe /a, /meta/subscribe /b, " + strings.Repeat("/meta/connect long-polling, ", 4) + "/meta/disconnect"
		if got := l.heard(); got != want {
			t.Errorf("asked\n%s\nwant\n%s", got, want)
		}
		if l.head.Get("X-Key") != "k" || l.head.Get("Content-Type") != "application/json" || l.head.Get("Origin") != "http://legacy" {
			t.Errorf("%v", l.head)
		}
	})
}

// TestLongPollsRefuse: an answer other than 2xx is what one to an upgrade is, at first and later.
func TestLongPollsRefuse(t *testing.T) {
	for status, want := range map[int]string{401: "[] upstream refused (401)", 503: "lost: answered 503"} {
		l := &longPolls{status: status}
		bubble(t, l.ServeHTTP, func(t *testing.T) {
			l.events = make(chan string)
			k := start(t, bayeuxSettings)
			time.Sleep(500 * time.Millisecond)
			err := k.end()
			if got := fmt.Sprint(k.texts(), err); !strings.Contains(got, want) {
				t.Errorf("%d: %s, want %s", status, got, want)
			}
		})
	}
	l := &longPolls{}
	bubble(t, l.ServeHTTP, func(t *testing.T) {
		l.events = make(chan string)
		k := start(t, bayeuxSettings)
		time.Sleep(time.Second)
		l.mu.Lock()
		l.status = http.StatusInternalServerError
		l.mu.Unlock()
		l.events <- "" // the connect that is held ends well, the next one does not
		time.Sleep(500 * time.Millisecond)
		l.mu.Lock()
		l.status = 0
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		l.events <- `{"channel":"/a","data":1},`
		time.Sleep(100 * time.Millisecond)
		if got := strings.Join(k.texts(), "|"); !strings.Contains(got, "answered 500") || !strings.HasSuffix(got, "|1") {
			t.Error(got)
		}
		k.end()
	})
}

// TestPostsClose: nothing is sent on a connection that is being closed, whoever is about to.
func TestPostsClose(t *testing.T) {
	hold := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	bubble(t, hold, func(t *testing.T) {
		for range 50 {
			s, _ := expanded(t, compiled(t, bayeuxSettings), "/").Source(quietLog).(*subscription)
			d, err := s.dial()
			if err != nil {
				t.Fatal(err)
			}
			p := newPosts(&wsConn{subscription: s}, d)
			var both sync.WaitGroup
			both.Go(func() { _ = p.post(t.Context(), dialect.Frame{Data: []byte("[]"), Held: true}) }) // ends at once
			both.Go(func() { _ = p.CloseNow() })                                                       // ends when nothing is pending
			both.Wait()
			if err := p.post(t.Context(), dialect.Frame{Data: []byte("[]"), Held: true}); err == nil {
				t.Fatal("a request goes out on a connection that is closed")
			}
		}
	})
}
