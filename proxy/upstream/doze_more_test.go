package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/translate"
)

// Of messages that have arrived together it is said that more comes, to have their clients told only once, and then an emit follows, whether or not the route's programs leave
// something of the others: by who looks out for all, by who is woken, and where the connection ends. What a clock of the dialect emits is another's.
func TestTurnMoreFollows(t *testing.T) {
	var many strings.Builder
	for range 20 {
		many.WriteString(`"yes" `)
	}
	for name, c := range map[string]struct {
		bursts string // of messages, separated by spaces; bursts by semicolons
		more   int64  // how often more comes, at least
		ends   bool   // the connection, after them
	}{
		"one by one":                {`"yes";"yes";"no"`, 0, false},
		"all are emitted":           {`"yes" "yes" "yes"`, 2, false},
		"the last are left out":     {`"yes" "no" "no";"yes" "no"`, 2, false},
		"the last fails":            {`"yes" "yes" x`, 2, false},
		"many":                      {many.String(), 10, false},
		"many, and then none":       {many.String() + `"no" "no"`, 10, false},
		"the end":                   {`"yes" "no"`, 1, true},
		"the end, after an emit":    {`"yes" "yes"`, 1, true},
		"a part of another message": {`"yes" "no" PART`, 1, false},
	} {
		for _, brief := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: ", not brief"}[brief], func(t *testing.T) {
				t.Parallel()
				ctx, conn, say := bursting(t, SourceSettings{Select: `select(.=="yes")`})
				var said, came atomic.Int64
				var owed atomic.Bool
				sleeps, ended := turns(ctx, t, conn, brief, func(ms []translate.Message) error {
					more := len(ms) > 0 && conn.(Foreseer).Comes() == ComesMore
					owed.Store(more)
					if more {
						said.Add(1)
					}
					came.Add(int64(len(ms)))
					return nil
				})
				for burst := range strings.SplitSeq(c.bursts, ";") {
					var raw []byte
					want := came.Load()
					for _, text := range strings.Fields(burst) {
						if text == "PART" {
							raw = append(raw, 0x81, 100, '"')
							continue
						}
						raw = append(raw, frames(text)...)
						if text == `"yes"` {
							want++
						}
					}
					say <- raw
					for deadline := time.Now().Add(time.Minute); came.Load() < want || owed.Load(); time.Sleep(time.Millisecond) {
						if time.Now().After(deadline) {
							t.Fatalf("%d emitted of %d; one is to follow: %v", came.Load(), want, owed.Load())
						}
					}
				}
				close(say)
				if c.ends {
					<-ended
				}
				more := c.more
				if !sleeps.Load() { // then what is read first are a few bytes
					more = min(more, 1)
				}
				if n := said.Load(); owed.Load() || brief && n < more || !brief && n > 0 {
					t.Errorf("said %d times that more comes, want %d; one is to follow: %v", n, more, owed.Load())
				}
			})
		}
	}
}

// turns gives conn its turns, each time that it wakes, until it ends, as it does with the test. sleeps: it has slept.
func turns(ctx context.Context, t *testing.T, conn Dozer, brief bool, emit func([]translate.Message) error) (sleeps *atomic.Bool, ended <-chan struct{}) {
	t.Helper()
	sleeps = new(atomic.Bool)
	over, woken := make(chan struct{}), make(chan bool, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(over)
		for {
			if asleep, _ := conn.Turn(ctx, emit, func() { woken <- true }, brief); !asleep {
				return
			}
			sleeps.Store(true)
			<-woken
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	return sleeps, over
}

// bursting is a connection that may sleep, of which the upstream says bytes as it is given them, and ends where there are no more.
func bursting(t *testing.T, s SourceSettings) (ctx context.Context, conn Dozer, say chan<- []byte) {
	t.Helper()
	raw, over := make(chan []byte), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go accept(conn, r, "") // ends with conn
		for open := true; open; {
			var bytes []byte
			select {
			case bytes, open = <-raw:
				conn.Write(bytes)
			case <-over:
				open = false
			}
		}
		conn.(*net.TCPConn).CloseWrite()
		<-over
		conn.Close()
	}))
	t.Cleanup(server.Close)
	t.Cleanup(sockets.CloseIdleConnections)
	t.Cleanup(func() { close(over) })
	ctx, conn = dozer(t, server, s)
	return ctx, conn, raw
}

// dozer is a connection to server, which ends with the test.
func dozer(t *testing.T, server *httptest.Server, s SourceSettings) (context.Context, Dozer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s.From, s.Idle = "ws"+strings.TrimPrefix(server.URL, "http"), time.Hour
	c, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, c.(Dozer)
}

// frames are whole text messages, each shorter than 126 bytes.
func frames(texts ...string) (raw []byte) {
	for _, text := range texts {
		raw = append(append(raw, 0x81, byte(len(text))), text...)
	}
	return raw
}

// Where a message takes long, clients are told before of those that were emitted, whoever reads.
func TestTurnTellsBeforeLong(t *testing.T) {
	long := strings.Repeat("(.,.)|", 40) + "select(.b)" // it has no outputs, for as long as it may
	for _, n := range []int{1, busyRun + 4} {           // the rest of many is for who is woken
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			ctx, conn, say := bursting(t, SourceSettings{Select: "if .slow then " + long + " else . end"})
			texts := slices.Repeat([]string{`{"a":1}`}, n)
			texts = append(texts, `{"slow":1}`, `{"slow":1}`, `{"a":2}`)
			var mu sync.Mutex   // guards what follows
			var since time.Time // that more comes was said
			worst, came, said := time.Duration(0), 0, 0
			all := make(chan bool, 1)
			sleeps, _ := turns(ctx, t, conn, true, func(ms []translate.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if !since.IsZero() {
					worst = max(worst, time.Since(since))
				}
				since = time.Time{}
				if came += len(ms); came == n+1 {
					all <- true
				}
				if len(ms) > 0 && conn.(Foreseer).Comes() == ComesMore {
					said++
					since = time.Now()
				}
				return nil
			})
			say <- frames(texts...)
			select {
			case <-all:
			case <-time.After(time.Minute):
				t.Fatal("not all of it came")
			}
			mu.Lock()
			defer mu.Unlock()
			most := n - 1
			if !sleeps.Load() { // then what is read first are a few bytes
				most = n / 2
			}
			if said < most || worst > programTime/2 {
				t.Errorf("said %d times that more comes, and then waited for %v", said, worst)
			}
		})
	}
}
