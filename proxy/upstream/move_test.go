package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

// movingSettings are in the shape of Twitch's EventSub: an announcement names where to connect to, and a welcome there ends the overlap.
var movingSettings = SourceSettings{
	From:   "ws://first/",
	State:  `(select(.type=="welcome")|{id,reconnect:null}), (select(.type=="moving")|{reconnect:.url})`,
	Dial:   "$state.reconnect",
	Hello:  `~ .type=="moving"` + "\n" + `< .type=="welcome"`,
	Select: "select(.n).n",
}

// mover is a feed whose nth connection is talked to by the nth of talks.
func mover(talks ...func(f *feed, p *peer)) *feed {
	f := &feed{}
	f.talk = func(p *peer) {
		f.mu.Lock()
		host := f.requests[p.n-1].Host
		f.mu.Unlock()
		f.note(fmt.Sprintf("connection %d at %s", p.n, host))
		if p.n <= len(talks) {
			talks[p.n-1](f, p)
		}
	}
	return f
}

func says(texts ...string) func(*feed, *peer) {
	return func(f *feed, p *peer) { p.say(texts...); f.listen(p) }
}

const welcome = `{"type":"welcome","id":"w"}`

// emitted is expect without the emits of nothing, which are for what is saved.
func (k *taking) emitted(want ...string) {
	k.t.Helper()
	synctest.Wait()
	k.mu.Lock()
	k.lines = slices.DeleteFunc(k.lines, func(line string) bool { return strings.HasSuffix(line, "s ") })
	k.mu.Unlock()
	k.expect(want...)
}

func TestMove(t *testing.T) {
	f := mover(
		func(f *feed, p *peer) {
			p.say(welcome, `{"n":1}`, `{"type":"moving","url":"ws://second/x"}`, `{"n":2}`)
			time.Sleep(2500 * time.Millisecond) // the new one is slow
			p.say(`{"n":3}`)
			f.listen(p)
		},
		func(f *feed, p *peer) {
			time.Sleep(3 * time.Second)
			p.say(welcome, `{"n":4}`)
			time.Sleep(time.Second)
			p.say(`{"type":"moving","url":"ws://third/"}`, `{"n":5}`)
			f.listen(p)
		},
		says(welcome, `{"n":6}`),
	)
	subscribed(t, movingSettings, f, func(t *testing.T, k *taking) {
		time.Sleep(10 * time.Second)
		k.emitted("0s 1", "0s 2", "2.5s 3", "3s 4", "4s 5", "4s 6")
		f.expect(t, "0s connection 1 at first", "0s connection 2 at second", "3s closed 1000", "4s connection 3 at third", "4s closed 1000")
		if st := k.route.Stats; st.Moves.Load() != 2 || st.Connects.Load() != 3 {
			t.Errorf("%d moves, %d connects", st.Moves.Load(), st.Connects.Load())
		}
		if log := k.log.String(); strings.Count(log, "the upstream has announced a move") != 2 {
			t.Error(log)
		}
	})
}

// TestMoveReadsToTheEnd: what the old connection has said is emitted before it is closed, however long that takes.
func TestMoveReadsToTheEnd(t *testing.T) {
	f := mover(says(welcome, `{"type":"moving","url":"ws://second/"}`, `{"n":1}`, `{"n":2}`, `{"n":3}`), says(welcome, `{"n":4}`))
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun = time.Now()
		source := expanded(t, compiled(t, movingSettings), "/").Source(quietLog)
		conn, err := source.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var got []string
		done := make(chan error, 1)
		go func() { // ends with stop
			done <- conn.Run(ctx, func(ms []translate.Message) error {
				if len(ms) > 0 {
					time.Sleep(2 * time.Second) // a store that is slow
					got = append(got, write(ms))
				}
				return nil
			})
		}()
		time.Sleep(20 * time.Second)
		stop()
		<-done
		if strings.Join(got, " ") != "1 2 3 4" {
			t.Errorf("emitted %q", got)
		}
	})
}

// TestMoveTooLate: where the old connection has ended before the new one was ready, something may be lost.
func TestMoveTooLate(t *testing.T) {
	f := mover(
		func(_ *feed, p *peer) {
			p.say(welcome, `{"n":1}`, `{"type":"moving","url":"ws://second/"}`)
			time.Sleep(time.Second)
		},
		func(f *feed, p *peer) {
			time.Sleep(2 * time.Second)
			says(welcome, `{"n":2}`)(f, p)
		},
	)
	subscribed(t, movingSettings, f, func(t *testing.T, k *taking) {
		time.Sleep(5 * time.Second)
		k.emitted("0s 1", "2s gap upstream", "2s 2")
	})
}

// TestMoveFails: a move that comes to nothing is a reconnection, and an address at which there is nobody is not tried for ever.
func TestMoveFails(t *testing.T) {
	f := mover(says(welcome, `{"n":1}`, `{"type":"moving","url":"ws://second/?secret=confidential"}`), says(welcome, `{"n":2}`))
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Host == "second" {
			f.mu.Lock()
			f.times, f.requests = f.times[:len(f.times)-1], f.requests[:len(f.requests)-1]
			f.mu.Unlock()
			http.Error(w, "gone", http.StatusForbidden)
			return true
		}
		return false
	}
	subscribed(t, movingSettings, f, func(t *testing.T, k *taking) {
		time.Sleep(5 * time.Second)
		k.emitted("0s 1", "0s lost: the move to another address failed: upstream refused (403)", "1s 2")
	})
}

// A reconnection where nothing names another address is what it was.
func TestReconnectWithoutMove(t *testing.T) {
	f := mover(says(welcome, `{"n":1}`, `{"type":"moving"}`), says(welcome, `{"n":2}`))
	subscribed(t, movingSettings, f, func(t *testing.T, k *taking) {
		time.Sleep(3 * time.Second)
		k.emitted("0s 1", "0s lost: a message matched a ~ line of HELLO", "1s 2")
	})
}

// What a client sends after a move goes to the new connection, and what ends meanwhile leaves nothing behind.
func TestMoveAndSend(t *testing.T) {
	f := mover(says(welcome, `{"type":"moving","url":"ws://second/"}`), says(welcome, `{"n":2}`))
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun = time.Now()
		source := expanded(t, compiled(t, movingSettings), "/").Source(quietLog)
		conn, err := source.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- conn.Run(ctx, func([]translate.Message) error { return nil }) }() // ends with stop
		time.Sleep(2 * time.Second)
		if err := conn.Send(t.Context(), translate.Message{Data: []byte("hello")}); err != nil {
			t.Error(err)
		}
		f.expect(t, "0s connection 1 at first", "0s connection 2 at second", "0s closed 1000", "2s hello")
		if saved := source.Save(); !strings.Contains(string(saved), `"w"`) {
			t.Errorf("%q is saved", saved)
		}
		stop()
		<-done
	})
}

// TestMoveOfAStreamThatEnds: a stream that ends while it moves leaves no connection.
func TestMoveOfAStreamThatEnds(t *testing.T) {
	f := mover(says(welcome, `{"type":"moving","url":"ws://second/"}`), func(f *feed, p *peer) {
		time.Sleep(2 * time.Second)
		says(welcome)(f, p)
	})
	subscribed(t, movingSettings, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		k.end()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.heard) != 4 {
			t.Errorf("%q", f.heard)
		}
	})
}

// TestMoveAfterTheEnd: what ends a stream ends it, whatever moves.
func TestMoveAfterTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		last string
		want func(error) bool
	}{
		"done":    {`{"n":9,"done":true}`, func(err error) bool { return errors.Is(err, translate.ErrFinished) }},
		"refused": {`{"type":"no"}`, func(err error) bool { var r *translate.Refused; return errors.As(err, &r) }},
	} {
		for _, second := range []func(*feed, *peer){says(welcome, `{"n":2}`), func(_ *feed, p *peer) { p.Close(4000, "") }} {
			f := mover(func(f *feed, p *peer) {
				p.say(welcome, `{"n":1}`, `{"type":"moving","url":"ws://second/"}`, c.last)
				f.listen(p)
			}, func(f *feed, p *peer) { time.Sleep(time.Second); second(f, p) })
			s := movingSettings
			s.Done = ".==9"
			s.Hello = `! .type=="no"` + "\n" + s.Hello
			subscribed(t, s, f, func(t *testing.T, k *taking) {
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if !c.want(k.err) || strings.Contains(strings.Join(k.texts(), " "), "2") || k.ended > 500*time.Millisecond {
					t.Errorf("%s: %q, ended by %v after %v", name, k.texts(), k.err, k.ended)
				}
			})
		}
	}
}

// TestMoveThatFailsIsForgotten: what a connection has taken in that never was ready is not in the ring, so nothing goes on from there.
func TestMoveThatFailsIsForgotten(t *testing.T) {
	f := mover(
		func(f *feed, p *peer) {
			p.say(`{"type":"welcome"}`, `{"n":1}`, `{"type":"moving","url":"ws://second/1"}`)
			f.listen(p)
		},
		func(f *feed, p *peer) { f.note(p.hear()); p.say(`{"n":2}`, `{"n":3}`); p.Close(4000, "") },
		func(f *feed, p *peer) { f.note(p.hear()); p.say(`{"type":"welcome","resumed":true}`); f.listen(p) },
	)
	s := movingSettings
	s.From = "ws://first/{stream.n}"
	s.State = `(select(.n)|{n}), (select(.type=="moving")|{reconnect:.url}), (select(.type=="welcome")|{reconnect:null})`
	s.Resumed = ".resumed"
	s.Hello = `~ .type=="moving"` + "\n" + `= select($state.n)|{from:$state.n}` + "\n" + `< .type=="welcome"`
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun = time.Now()
		source := expanded(t, compiled(t, s), "/").Source(quietLog)
		conn, err := source.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Run(t.Context(), func([]translate.Message) error { return nil })
		var retry *Retry
		if !errors.As(err, &retry) || !retry.Resumes || !strings.Contains(err.Error(), "the move to another address failed") {
			t.Fatal(err)
		}
		synctest.Wait() // the second one has noticed that it is cut
		if conn, err = source.Connect(t.Context()); err != nil || conn.Resumed() {
			t.Fatalf("%v; nothing was lost, it says", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_ = conn.Run(ctx, func([]translate.Message) error { return nil })
		f.expect(t, "0s connection 1 at first", "0s connection 2 at second", `0s {"from":1}`, "0s cut", "0s connection 3 at first", `0s {"from":1}`, "0s closed 1001")
		if path := f.requests[2].URL.Path; path != "/3" {
			t.Errorf("the third dial was to %s", path)
		}
	})
}

// TestMoveRemembers: what the old connection goes on to learn is known to the new one, but for what that has learned itself.
func TestMoveRemembers(t *testing.T) {
	f := mover(
		func(f *feed, p *peer) {
			p.say(welcome, `{"type":"moving","url":"ws://second/"}`)
			for range 200 {
				p.say(`{"n":1}`)
			}
			f.listen(p)
		},
		func(f *feed, p *peer) {
			for range 100 {
				p.say(`{"n":1}`)
			}
			p.say(welcome, `{"n":2}`)
			f.listen(p)
		},
	)
	s := movingSettings
	s.From = "ws://first/{state.n:0}"
	s.State = `(select(.type=="welcome")|{id,reconnect:null}), (select(.type=="moving")|{reconnect:.url}), (select(.n)|{n})`
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(10 * time.Second)
		if n := len(k.texts()); n < 200 {
			t.Errorf("%d", n)
		}
	})
}

// TestMoveAnnouncedInTheOpening: one frame may complete the opening and announce the move.
func TestMoveAnnouncedInTheOpening(t *testing.T) {
	f := mover(
		func(f *feed, p *peer) {
			p.say(welcome + "\n" + `{"type":"moving","url":"ws://second/"}`)
			f.listen(p)
		},
		says(welcome, `{"n":2}`))
	s := movingSettings
	s.Separator = `\n`
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(10 * time.Second)
		k.emitted("0s 2")
		f.expect(t, "0s connection 1 at first", "0s connection 2 at second", "0s closed 1000")
	})
}

// TestMoveCutsShort: an old connection that is closed before all that it has said was read leaves a gap.
func TestMoveCutsShort(t *testing.T) {
	f := mover(says(welcome, `{"type":"moving","url":"ws://second/"}`, `{"n":1}`, `{"n":2}`), says(welcome, `{"n":3}`))
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun = time.Now()
		source := expanded(t, compiled(t, movingSettings), "/").Source(quietLog)
		conn, err := source.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var got []string
		done := make(chan error, 1)
		go func() { // ends with stop
			done <- conn.Run(ctx, func(ms []translate.Message) error {
				if len(ms) > 0 {
					time.Sleep(15 * time.Second) // a store that is away
					got = append(got, write(ms))
				}
				return nil
			})
		}()
		time.Sleep(2 * time.Minute)
		stop()
		<-done
		if text := strings.Join(got, " | "); text != "1 | gap upstream | 3" && text != "1 | 2 | 3" {
			t.Errorf("emitted %q", text)
		}
	})
}
