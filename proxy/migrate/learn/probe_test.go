package learn_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/migrate/learn"
)

// TestProbe asks a service that looks at one of three cookies.
func TestProbe(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("it was asked by %s", r.Method)
		}
		n := asked.Add(1)
		if r.URL.Path == "/api/random" {
			fmt.Fprintf(w, `{"n":%d}`, n)
			return
		}
		c, err := r.Cookie("odd")
		if err != nil || r.URL.RawQuery != "of=a+b" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"serverTime":%d,"user":%q}`, n, c.Value)
	}))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := twoPolls(t)
	o.Base = u
	found := learn.Probe(t.Context(), o, http.DefaultTransport)
	if fmt.Sprint(found) != "map[/api/me:map[_ga:false odd:true session:false]]" {
		t.Errorf("found %v", found)
	}
	if asked.Load() > 10 {
		t.Errorf("%d questions", asked.Load())
	}
	r := learn.Conclude(o, found)
	load(t, r.Env)
	has(t, &r.Routes[0], "HEADERS=Cookie: odd={cookie.odd}")
}

// twoPolls is two polls.
func twoPolls(t *testing.T) *learn.Observation {
	const cookies = "session=1; odd=2; _ga=3"
	return asked(polls(t, "/api/me?of=a+b", cookies, time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`), polls(t, "/api/random", cookies, time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`))
}
