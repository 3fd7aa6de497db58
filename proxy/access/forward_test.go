package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var asking = Settings{Methods: []string{Forward}, URL: "http://app/auth", Claims: []string{"X-User", "X-Groups"}}

func TestQuestion(t *testing.T) {
	app := &service{answer: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-User", "joe")
		w.Header().Add("X-Groups", "a")
		w.Header().Add("X-Groups", "b")
		w.Header().Set("X-Other", "x")
		w.WriteHeader(202)
	}}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		p, err := g.Admit(t.Context(), from("/a/7?x=1", "Cookie", "s=1", "Cookie", "t=2", "X-User", "root", "X-Forwarded-Uri", "/free", "Accept", "text/html"))
		if err != nil {
			t.Fatal(err)
		}
		if p.Claim("X-User") != "joe" || p.Claim("X-Groups") != "a,b" || p.Claim("X-Other") != "" || !p.Until().IsZero() || p.Standing() != Stays {
			t.Errorf("%+v", p)
		}
		r := app.asked[0]
		want := http.Header{"Cookie": {"s=1", "t=2"}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/a/7?x=1"}, "X-Forwarded-Host": {"app.example"},
			"X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"192.0.2.7"}, "User-Agent": {"sidestream"}}
		if r.Method != "GET" || r.URL.String() != "http://app/auth" || fmt.Sprint(r.Header) != fmt.Sprint(want) {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
	})
}

func TestAnswers(t *testing.T) {
	for code, want := range map[int]string{200: "in", 202: "in", 204: "in", 299: "in", 301: "401", 302: "401", 307: "401", 401: "401", 403: "403",
		400: "later", 404: "later", 407: "later", 429: "later", 500: "later", 502: "later", 503: "later", 0: "later"} {
		app := &service{answer: status(code)}
		bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
			if got := g.try(from("/a", "Cookie", "s=1")); got != want {
				t.Errorf("%d: %s, want %s", code, got, want)
			}
		})
	}
}

// Without REVALIDATE nothing is cached, whatever the answer.
func TestNothingIsCached(t *testing.T) {
	app := &service{answer: status(200)}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		one := g.seat(t, from("/a", "Cookie", "s=1"))
		if g.Known(from("/a", "Cookie", "s=1")) != nil {
			t.Error("an answer counts for another client")
		}
		two := g.seat(t, from("/a", "Cookie", "s=1"))
		if app.asks() != 2 {
			t.Errorf("%d questions", app.asks())
		}
		app.answers(status(401))
		if got := g.try(from("/a", "Cookie", "s=1")); got != "401" {
			t.Error(got)
		}
		time.Sleep(24 * time.Hour)
		if one.pass.Standing() != Stays || two.pass.Standing() != Stays || app.asks() != 3 {
			t.Errorf("asked again: %d", app.asks())
		}
	})
}

// Questions that are the same are one while they are under way; whatever differs makes another.
func TestOneQuestionAtOnce(t *testing.T) {
	app := &service{answer: slow(time.Second, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-User", r.Header.Get("Cookie")+r.Header.Get("Authorization"))
		w.WriteHeader(200)
	})}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		post := from("/a", "Cookie", "s=1")
		post.Method = "POST"
		host := from("/a", "Cookie", "s=1")
		host.Host = "other.example"
		clients := []*Client{from("/a", "Cookie", "s=1"), from("/a", "Cookie", "s=2"), from("/a", "Cookie", "s=1", "Authorization", "x"), from("/b", "Cookie", "s=1"),
			from("/a?x", "Cookie", "s=1"), from("/a", "Authorization", "s=1"), from("/a", "Cookie", "s=1", "Cookie", ""), from("/a"), post, host}
		var all sync.WaitGroup
		for _, c := range clients {
			for range 50 {
				all.Go(func() {
					p, err := g.Admit(t.Context(), c)
					if want := c.Header.Get("Cookie") + c.Header.Get("Authorization"); err != nil || p.Claim("X-User") != want {
						t.Errorf("%v: %v %v", c.Header, p, err)
					}
				})
			}
		}
		all.Wait()
		if app.asks() != len(clients) {
			t.Errorf("%d questions for %d sorts of clients", app.asks(), len(clients))
		}
	})
}

// A client waits for 3 s; the question goes on, so that one who comes back has its answer.
func TestSlowService(t *testing.T) {
	app := &service{answer: slow(5*time.Second, status(200))}
	bubble(t, asking, app, func(t *testing.T, g *Guard, log *logged) {
		began := time.Now()
		if got := g.try(from("/a", "Cookie", "s=1")); got != "later" || time.Since(began) != 3*time.Second {
			t.Error(got, time.Since(began))
		}
		if got := g.try(from("/a", "Cookie", "s=1")); got != "in" || time.Since(began) != 5*time.Second || app.asks() != 1 {
			t.Error(got, time.Since(began), app.asks())
		}
		app.answers(slow(time.Hour, status(200)))
		began = time.Now()
		if got := g.try(from("/a", "Cookie", "s=2")); got != "later" || time.Since(began) != 3*time.Second {
			t.Error(got, time.Since(began))
		}
		time.Sleep(10 * time.Second)
		app.answers(status(200))
		if got := g.try(from("/a", "Cookie", "s=2")); got != "in" {
			t.Error(got)
		}
		if n := strings.Count(log.String(), "does not say who clients are"); n != 1 || !strings.Contains(log.String(), "answers again") {
			t.Errorf("%s", log)
		}
	})
}

// However many are asked for, so many questions are under way; a client that is gone is not waited for.
func TestQuestionsAreBounded(t *testing.T) {
	app := &service{answer: slow(time.Hour, status(200))}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		var all sync.WaitGroup
		for i := range 2 * questionsMost {
			all.Go(func() {
				if got := g.try(from("/a", "Cookie", fmt.Sprint("s=", i))); got != "later" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if app.asks() != questionsMost {
			t.Errorf("%d questions", app.asks())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Admit(ctx, from("/b")); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
}

// A guard that is closed waits for nobody and admits nobody.
func TestCloseEndsQuestions(t *testing.T) {
	app := &service{answer: slow(time.Hour, status(200))}
	bubble(t, asking, app, func(t *testing.T, g *Guard, log *logged) {
		done := make(chan string)
		go func() { done <- g.try(from("/a")) }()
		synctest.Wait()
		began := time.Now()
		g.Close()
		if got := <-done; got != "later" || time.Since(began) != 0 {
			t.Error(got, time.Since(began))
		}
		if got := g.try(from("/a")); got != "later" || log.String() != "" {
			t.Error(got, log)
		}
	})
}
