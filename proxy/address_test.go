package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWhereClientsComeFrom(t *testing.T) {
	a := addresses{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.1/32")}}
	for _, test := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"203.0.113.7:1234", nil, "203.0.113.7"},
		{"203.0.113.7:1234", []string{"198.51.100.1"}, "203.0.113.7"}, // a stranger says so
		{"10.0.0.1:1234", nil, "10.0.0.1"},
		{"10.0.0.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"[::ffff:10.0.0.1]:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},           // what is left of it is its own
		{"10.0.0.1:1234", []string{"127.0.0.1", "198.51.100.1"}, "198.51.100.1"},         // in lines of their own
		{"10.0.0.1:1234", []string{"198.51.100.1, 10.9.9.9, 192.0.2.1"}, "198.51.100.1"}, // through several
		{"10.0.0.1:1234", []string{"10.9.9.9 ,10.8.8.8"}, "10.9.9.9"},                    // one of the proxies' own
		{"10.0.0.1:1234", []string{"198.51.100.1:5678"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"2001:db8::1"}, "2001:db8::1"},
		{"10.0.0.1:1234", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"10.0.0.1:1234", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"[fd00::1]:80", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1234", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"10.0.0.1:1234", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		if got := a.of(r).String(); got != test.want {
			t.Errorf("%s %q: %s, want %s", test.remote, test.forwarded, got, test.want)
		}
	}
}

// So many clients of one address are let in, and each of another; whoever leaves makes room, whichever way it came and left.
func TestClientsPerAddress(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer("{}")
	s := serve(t, routeEnv(f, "SSE_MAX_CLIENTS_PER_IP=3", "SSE_TRUSTED_PROXIES=127.0.0.1", "SSE_TUNNEL=/ws")...)
	from := func(address string) *response { return s.get(t, "/a", "X-Forwarded-For: "+address) }
	var all []*response
	for _, address := range []string{"198.51.100.1", "203.0.113.9, 198.51.100.1", "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3", "2001:db8:0:1::1"} {
		r := from(address)
		r.wantOpen(t)
		all = append(all, r)
	}
	for _, address := range []string{"198.51.100.1", "2001:db8::4"} {
		r := from(address)
		text, err := r.rest()
		if r.StatusCode != 200 || !strings.Contains(text, "stream.busy") || errors.Is(err, io.EOF) {
			t.Errorf("%s: %d %q %v", address, r.StatusCode, text, err)
		}
	}
	page := s.get(t, "/_sidestream/tunnel?page="+strings.Repeat("p", 16), "X-Forwarded-For: 198.51.100.1")
	if text, _ := page.rest(); !strings.Contains(text, "stream.busy") {
		t.Errorf("a page: %q", text)
	}
	if n := s.Rejected[FullAddress].Load(); n != 3 {
		t.Errorf("%d counted", n)
	}
	all[1].conn.Close()
	eventually(t, "there is room", func() bool {
		r := from("198.51.100.1")
		e, err := r.tryNext(t)
		return err == nil && e.name == "stream.open"
	})
	for _, r := range all {
		r.conn.Close()
	}
	eventually(t, "the others have left", func() bool { return s.all.Used() == 1 })
	eventually(t, "all places but one are given back", func() bool {
		s.perAddress.mu.Lock()
		defer s.perAddress.mu.Unlock()
		return fmt.Sprint(s.perAddress.used) == "map[198.51.100.1/32:1]"
	})
}

// What is refused after it has taken its place gives it back.
func TestPlacesOfAnAddressAreGivenBack(t *testing.T) {
	f := newFeed(t)
	var refuse atomic.Bool
	f.verify = func(*http.Request) int {
		if refuse.Load() {
			return 403
		}
		return 0
	}
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?{query}", "SSE_MAX_CLIENTS_PER_IP=100", "SSE_MAX_CLIENTS=3", "SSE_ROUTE_A_MAX_STREAMS=2", "SSE_ROUTE_A_DONE=.done")
	one := s.get(t, "/a?1")
	s.get(t, "/a?2")
	s.get(t, "/a?3").rest() // no more streams
	s.get(t, "/a?2")
	s.get(t, "/a?2").rest() // no more clients
	f.publish(t, "1", `{"done":true}`)
	id := one.next(t).id
	eventually(t, "the others have left", func() bool { return s.all.Used() == 2 })
	if r := s.get(t, "/a?1", "Last-Event-ID: "+id); r.StatusCode != 204 {
		t.Error(r.StatusCode)
	}
	refuse.Store(true)
	if r := s.get(t, "/a?1", "Last-Event-ID: 1-1"); r.StatusCode == 200 {
		r.conn.Close()
	}
	eventually(t, "the others have left", func() bool { return s.all.Used() == 2 })
	eventually(t, "two places are taken", func() bool {
		s.perAddress.mu.Lock()
		defer s.perAddress.mu.Unlock()
		return fmt.Sprint(s.perAddress.used) == "map[127.0.0.1/32:2]"
	})
}

// A stream has no more clients than MAX_CLIENTS_PER_STREAM: on a route of users' own a user cannot take the places of others. Places are given back, also
// where the client is turned away for another reason.
func TestPerStream(t *testing.T) {
	f := newFeed(t)
	s := serve(t, []string{"SSE_UPSTREAM=" + f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws?u={header.X-User}", "SSE_ROUTE_A_MAX_CLIENTS_PER_STREAM=2", "SSE_MAX_CLIENTS=3"}...)
	busy := func(r *response) bool {
		for {
			line, err := r.in.ReadString('\n')
			if err != nil || strings.HasPrefix(line, "event: stream.open") {
				return false
			}
			if strings.HasPrefix(line, "event: stream.busy") {
				return true
			}
		}
	}
	one, two := s.get(t, "/a", "X-User: joe"), s.get(t, "/a", "X-User: joe")
	if busy(one) || busy(two) {
		t.Fatal("two are allowed")
	}
	for range 3 {
		if !busy(s.get(t, "/a", "X-User: joe")) {
			t.Error("a third one came in")
		}
	}
	ann := s.get(t, "/a", "X-User: ann")
	if busy(ann) {
		t.Error("another user has no place")
	}
	for range 3 {
		if !busy(s.get(t, "/a", "X-User: ann")) { // SSE_MAX_CLIENTS, of which her stream's place is given back
			t.Error("a fourth client")
		}
	}
	two.conn.Close()
	eventually(t, "joe's place to be free", func() bool { return !busy(s.get(t, "/a", "X-User: joe")) })
	ann.conn.Close()
	one.conn.Close()
	eventually(t, "all places to be given back", func() bool {
		s.Routes()[0].perStream.mu.Lock()
		defer s.Routes()[0].perStream.mu.Unlock()
		return len(s.Routes()[0].perStream.used) <= 1
	})
}
