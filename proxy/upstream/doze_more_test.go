package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
				say, over := make(chan []byte), make(chan struct{})
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					conn, _, err := w.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					go accept(conn, r, "") // ends with conn
					for raw := range say {
						conn.Write(raw)
					}
					conn.(*net.TCPConn).CloseWrite()
					<-over
					conn.Close()
				}))
				defer server.Close()
				defer close(over)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				conn, err := expanded(t, compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Select: `select(.=="yes")`, Idle: time.Hour}), "/").Source(quietLog).Connect(ctx)
				if err != nil {
					t.Fatal(err)
				}
				var said, came atomic.Int64
				var owed atomic.Bool
				woken := make(chan bool, 1)
				turn := func() (asleep bool) {
					asleep, _ = conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
						more := len(ms) > 0 && conn.(Foreseer).Comes() == ComesMore
						owed.Store(more)
						if more {
							said.Add(1)
						}
						came.Add(int64(len(ms)))
						return nil
					}, func() { woken <- true }, brief)
					return asleep
				}
				asleep := turn()
				for burst := range strings.SplitSeq(c.bursts, ";") {
					var raw []byte
					want := came.Load()
					for _, text := range strings.Fields(burst) {
						if text == "PART" {
							raw = append(raw, 0x81, 100, '"')
							continue
						}
						raw = append(append(raw, 0x81, byte(len(text))), text...)
						if text == `"yes"` {
							want++
						}
					}
					say <- raw
					for deadline := time.After(time.Minute); came.Load() < want || owed.Load(); {
						select {
						case <-woken:
							// A part of a message is waited for.
							if !strings.Contains(burst, "PART") {
								asleep = turn()
								continue
							}
							go turn() // ends with ctx
						case <-time.After(time.Millisecond):
						case <-deadline:
							t.Fatalf("%d emitted of %d; one is to follow: %v", came.Load(), want, owed.Load())
						}
					}
				}
				close(say)
				for c.ends && asleep {
					<-woken
					asleep = turn()
				}
				if n := said.Load(); owed.Load() || brief && n < c.more || !brief && n > 0 {
					t.Errorf("said %d times that more comes, want %d; one is to follow: %v", n, c.more, owed.Load())
				}
			})
		}
	}
}
