package access

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// again is asking with an interval.
func again(d time.Duration) Settings {
	s := asking
	s.Revalidate = d
	return s
}

// sessions is an application with sessions that end.
func sessions(open map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user := open[r.Header.Get("Cookie")]
		w.Header().Set("X-User", user)
		if user == "" {
			w.WriteHeader(401)
		}
	}
}

// Whoever is logged out is refused within REVALIDATE, whenever that was, and all others stay.
func TestLogoutIsNoticedInTime(t *testing.T) {
	const every = 30 * time.Second
	for wait := time.Duration(0); wait < 2*every; wait += 1700 * time.Millisecond {
		open := map[string]string{"s=1": "joe", "s=2": "ann"}
		app := &service{answer: sessions(open)}
		bubble(t, again(every), app, func(t *testing.T, g *Guard, _ *logged) {
			joe, ann := g.seat(t, from("/a", "Cookie", "s=1")), g.seat(t, from("/a", "Cookie", "s=2"))
			time.Sleep(wait)
			app.answers(sessions(map[string]string{"s=2": "ann"}))
			out := time.Now()
			for joe.ended.Load() == 0 && time.Since(out) <= every {
				time.Sleep(100 * time.Millisecond)
			}
			if joe.pass.Standing() != http.StatusUnauthorized || time.Since(out) > every {
				t.Errorf("after %v: %v", time.Since(out), joe.pass.Standing())
			}
			if got := g.try(from("/a", "Cookie", "s=1")); got != "401" {
				t.Error(got)
			}
			time.Sleep(5 * every)
			if ann.ended.Load() != 0 || ann.pass.Standing() != Stays {
				t.Error("another one was refused")
			}
		})
	}
}

// An answer counts for REVALIDATE, for those alone who come with the same. That somebody uses it does not make it last longer.
func TestAnswersCountForAWhile(t *testing.T) {
	app := &service{answer: status(200)}
	bubble(t, again(time.Minute), app, func(t *testing.T, g *Guard, _ *logged) {
		began := time.Now()
		for time.Since(began) < time.Minute {
			if g.Known(from("/a", "Cookie", "s=1")) == nil && time.Since(began) > 0 {
				t.Fatal("forgotten after ", time.Since(began))
			}
			if got := g.try(from("/a", "Cookie", "s=1")); got != "in" {
				t.Fatal(got)
			}
			time.Sleep(time.Second)
		}
		if app.asks() != 1 || g.Known(from("/a", "Cookie", "s=1")) != nil || g.Known(from("/a", "Cookie", "s=2")) != nil || g.Known(from("/b", "Cookie", "s=1")) != nil {
			t.Errorf("%d questions", app.asks())
		}
		app.answers(status(403))
		if got := g.try(from("/a", "Cookie", "s=1")); got != "403" {
			t.Error(got)
		}
		app.answers(status(200)) // a refusal is not cached: who logs in may come in
		if got := g.try(from("/a", "Cookie", "s=1")); got != "in" {
			t.Error(got)
		}
	})
}

// Nobody is asked for who is not there.
func TestOnlyThoseWhoAreHereAreAskedFor(t *testing.T) {
	app := &service{answer: status(200)}
	bubble(t, again(10*time.Second), app, func(t *testing.T, g *Guard, _ *logged) {
		stays, goes := g.seat(t, from("/a", "Cookie", "s=1")), g.seat(t, from("/a", "Cookie", "s=2"))
		time.Sleep(time.Minute)
		goes.leave()
		n := app.asks()
		time.Sleep(10 * time.Minute)
		app.mu.Lock()
		last := app.asked[n:]
		app.mu.Unlock()
		if slices.ContainsFunc(last, func(r *http.Request) bool { return r.Header.Get("Cookie") != "s=1" }) || len(last) < 60 || len(last) > 100 {
			t.Errorf("%d questions", len(last))
		}
		for i := range 5000 {
			g.seat(t, from("/a", "Cookie", fmt.Sprint("s=", i))).leave()
		}
		time.Sleep(5 * time.Minute)
		g.mu.Lock()
		if len(g.passes) > 2 || len(g.byKey) > 2 || len(g.due) > 2 {
			t.Errorf("%d passes are kept, %d are due", len(g.passes), len(g.due))
		}
		g.mu.Unlock()
		stays.leave()
	})
}

// A service that is slow or dead changes nothing for those who are here; they are asked for when it is back.
func TestDeadServiceKeepsWhoIsHere(t *testing.T) {
	for _, dead := range []http.HandlerFunc{status(0), status(500), slow(time.Hour, status(200))} {
		app := &service{answer: status(200)}
		bubble(t, again(10*time.Second), app, func(t *testing.T, g *Guard, _ *logged) {
			joe := g.seat(t, from("/a", "Cookie", "s=1"))
			app.answers(dead)
			time.Sleep(time.Hour)
			if joe.pass.Standing() != Stays {
				t.Fatal(joe.pass.Standing())
			}
			if got := g.try(from("/a", "Cookie", "s=1")); got != "later" {
				t.Error("a new one: ", got)
			}
			app.answers(status(403))
			time.Sleep(time.Minute)
			if joe.pass.Standing() != http.StatusForbidden || joe.ended.Load() != 1 {
				t.Error(joe.pass.Standing())
			}
		})
	}
}

// Who is somebody else now has another stream, and comes back for it.
func TestOtherClaimsComeBack(t *testing.T) {
	app := &service{answer: sessions(map[string]string{"s=1": "joe"})}
	bubble(t, again(10*time.Second), app, func(t *testing.T, g *Guard, _ *logged) {
		joe := g.seat(t, from("/a", "Cookie", "s=1"))
		app.answers(sessions(map[string]string{"s=1": "ann"}))
		time.Sleep(10 * time.Second)
		if joe.pass.Standing() != ComeBack || joe.pass.Claim("X-User") != "joe" {
			t.Error(joe.pass.Standing(), joe.pass.Claim("X-User"))
		}
		if ann := g.seat(t, from("/a", "Cookie", "s=1")); ann.pass.Claim("X-User") != "ann" || ann.pass.Standing() != Stays {
			t.Error(ann.pass.Standing())
		}
	})
}

// Three thousand sessions are asked for in time, by a bounded number of questions at once and one goroutine in between.
func TestManyAreAskedForInTime(t *testing.T) {
	app := &service{answer: slow(50*time.Millisecond, status(200))}
	bubble(t, again(time.Minute), app, func(t *testing.T, g *Guard, _ *logged) {
		app.answers(status(200))
		var all []*reader
		for i := range 3000 {
			all = append(all, g.seat(t, from("/a", "Cookie", fmt.Sprint("s=", i))))
		}
		app.answers(slow(50*time.Millisecond, status(200)))
		time.Sleep(3 * time.Minute)
		app.answers(slow(50*time.Millisecond, status(401)))
		app.most.Store(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, r := range all {
			if r.pass.Standing() == Stays {
				t.Fatal("one was not asked for in time")
			}
		}
		if n := app.most.Load(); n > askersMost {
			t.Errorf("%d questions at once", n)
		}
	})
}

// Who comes in late - by an answer that is known still, or because its upstream has taken its time - is asked for like everybody.
func TestLateClientsAreAskedFor(t *testing.T) {
	for every, late := range map[time.Duration]time.Duration{10 * time.Minute: 7 * time.Minute, time.Second: 3 * time.Second} {
		app := &service{answer: sessions(map[string]string{"s=1": "joe"})}
		bubble(t, again(every), app, func(t *testing.T, g *Guard, _ *logged) {
			first := g.seat(t, from("/a", "Cookie", "s=1"))
			time.Sleep(every / 10)
			first.leave()
			p, err := g.Admit(t.Context(), from("/a", "Cookie", "s=1"))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(late)
			if late < every {
				if p = g.Known(from("/a", "Cookie", "s=1")); p == nil {
					t.Fatal("the answer does not count any more")
				}
			}
			joe := sit(p)
			app.answers(sessions(nil))
			time.Sleep(every)
			if joe.pass.Standing() != 401 {
				t.Errorf("REVALIDATE=%v: one that came in late is not asked for", every)
			}
		})
	}
}
