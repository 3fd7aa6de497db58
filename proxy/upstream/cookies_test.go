package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func cookies(r *http.Request) string { return r.Header.Get("Cookie") }

// A poll has one session, however often it asks, and with COOKIES=off one for each request.
func TestPollKeepsItsSession(t *testing.T) {
	for off, want := range map[bool][]string{false: {"", "JSESSIONID=s1", "JSESSIONID=s1"}, true: {"", "", ""}} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if cookies(r) == "" {
				http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: fmt.Sprint("s", n), Path: "/", HttpOnly: true})
			}
			fmt.Fprint(w, n)
		}}
		polled(t, SourceSettings{Every: time.Second, NoCookies: off}, a, func(k *taking) {
			time.Sleep(2500 * time.Millisecond)
			if got := a.told(cookies); !slices.Equal(got, want) {
				t.Errorf("off=%v: %q", off, got)
			}
		})
	}
}

// A jar is one source's: another identity, and another source of the same, begin without.
func TestCookiesAreNotShared(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "s="+r.Header.Get("Authorization"))
		fmt.Fprint(w, n)
	}}
	rt := compiled(t, SourceSettings{From: "http://legacy/", Forward: []string{"Authorization"}})
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		for _, user := range []string{"a", "b", "a"} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", user)
			q, err := rt.Expand(r, func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			source := q.Source(quietLog)
			for range 2 {
				if _, err := source.Connect(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := a.told(cookies); !slices.Equal(got, []string{"", "s=a", "", "s=b", "", "s=a"}) {
			t.Errorf("%q", got)
		}
	})
}

// The upstream's word counts more than what the client brought along, whose other cookies stay.
func TestCookiesOverForwarded(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.Header().Add("Set-Cookie", "session=new; Path=/")
			w.Header().Add("Set-Cookie", "secret=x; Secure")
			w.Header().Add("Set-Cookie", "elsewhere=x; Path=/other")
			w.Header().Add("Set-Cookie", "foreign=x; Domain=example.com")
		}
		fmt.Fprint(w, n)
	}}
	polled(t, SourceSettings{Every: time.Second, Headers: "Cookie: a=1; session=old; b=2"}, a, func(k *taking) {
		time.Sleep(1500 * time.Millisecond)
		if got := a.told(cookies); !slices.Equal(got, []string{"a=1; session=old; b=2", "a=1; b=2; session=new"}) {
			t.Errorf("%q", got)
		}
	})
}

// A refusal forgets them: the session may have ended.
func TestRefusalForgetsCookies(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", fmt.Sprint("s=", n))
		if n == 2 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, n)
	}}
	for _, s := range []SourceSettings{{From: "http://legacy/"}, {From: "http://legacy/", Mode: ModeStream}} {
		a.requests, a.times = nil, nil
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			source := expanded(t, compiled(t, s), "/").Source(quietLog)
			for range 3 {
				if conn, err := source.Connect(t.Context()); err == nil && s.Mode == ModeStream {
					conn.(*httpStreamConn).close()
				}
			}
			if got := a.told(cookies); !slices.Equal(got, []string{"", "s=1", ""}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// A sticky balancer finds the server that negotiated: from TICKET to the upgrade, through a redirect, and from one dial to the next.
func TestDialsCarryCookies(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ticket":
			w.Header().Add("Set-Cookie", "route=node1")
			http.Redirect(w, r, "/ticket/2", http.StatusFound)
		case "/ticket/2":
			w.Header().Add("Set-Cookie", "ticket=2; Path=/")
			io.WriteString(w, `{}`)
		default:
			w.Header().Add("Set-Cookie", "socket=yes")
			c, err := websocket.Accept(w, r, nil)
			if err == nil {
				c.Close(websocket.StatusNormalClosure, "")
			}
		}
	}}
	s := SourceSettings{From: "ws://legacy/ws", Ticket: "http://legacy/ticket", Dial: ".url"}
	polled(t, s, a, func(k *taking) {
		time.Sleep(1500 * time.Millisecond)
		got := a.told(func(r *http.Request) string { return r.URL.Path + " " + cookies(r) })
		want := []string{"/ticket ", "/ticket/2 route=node1", "/ws route=node1; ticket=2", "/ticket route=node1; socket=yes; ticket=2"}
		for i := range got {
			parts := strings.Split(got[i], " ")
			slices.Sort(parts[1:])
			got[i] = strings.Join(parts, " ")
		}
		for i := range want {
			parts := strings.Split(want[i], " ")
			slices.Sort(parts[1:])
			if i >= len(got) || strings.ReplaceAll(got[i], ";", "") != strings.ReplaceAll(strings.Join(parts, " "), ";", "") {
				t.Errorf("%d: %q", i, got)
				break
			}
		}
	})
}

// Whatever the upstream sets, what is kept is bounded.
func TestCookiesAreBounded(t *testing.T) {
	j := new(jar)
	req := httptest.NewRequest("GET", "http://legacy/", nil)
	for n := range 1000 {
		resp := &http.Response{Header: http.Header{"Set-Cookie": {fmt.Sprintf("c%d=%s", n, strings.Repeat("x", n*10))}}}
		j.take(req.URL, resp)
		if len(j.known) > maxCookies || len(j.header(req.URL, nil)) > maxCookies*maxCookie {
			t.Fatalf("%d are kept", len(j.known))
		}
	}
	if strings.Contains(j.header(req.URL, nil), "c999=") {
		t.Error("a cookie of more than 4 KiB is kept")
	}
}
