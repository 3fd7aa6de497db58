package h2

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// ledger is what net/http has of a connection, and keeps an account of the connection's window as net/http sees it.
type ledger struct {
	*Visit

	own     sync.Mutex // guards what follows
	granted int64      // what net/http was told of, ever
	sent    int64      // data that it has written
	read    []byte     // of a frame
	reading int        // bytes to go by before the next one
	written []byte
	writing int
}

func (l *ledger) Read(p []byte) (int, error) {
	n, err := l.Visit.Read(p)
	l.own.Lock()
	defer l.own.Unlock()
	l.reading, l.read = frames(l.reading, append(l.read, p[:n]...), func(f head, payload []byte) (skip int) {
		if f.kind != frameWindowUpdate || f.stream != 0 {
			return f.size
		}
		if len(payload) < 4 {
			return -1
		}
		l.granted += int64(binary.BigEndian.Uint32(payload))
		return f.size
	})
	return n, err
}

func (l *ledger) Write(p []byte) (int, error) {
	l.own.Lock()
	l.writing, l.written = frames(l.writing, append(l.written, p...), func(f head, _ []byte) (skip int) {
		if f.kind == frameData {
			l.sent += int64(f.size)
		}
		return f.size
	})
	l.own.Unlock()
	return l.Visit.Write(p)
}

// frames calls f with the head of each frame in p, after so many bytes, and what there is of its payload. f returns the size
// of that, or -1: it has to see more.
func frames(skip int, p []byte, f func(head, []byte) int) (left int, rest []byte) {
	for {
		n := min(skip, len(p))
		if skip, p = skip-n, p[n:]; skip > 0 || len(p) < headSize {
			return skip, append([]byte(nil), p...)
		}
		size := f(readHead(p), p[headSize:])
		if size < 0 {
			return 0, append([]byte(nil), p...)
		}
		skip, p = size, p[headSize:]
	}
}

// TestTheLedger does this and that at random, and after each step holds what the connection has written down against what
// both ends have seen.
func TestTheLedger(t *testing.T) {
	for seed := range uint64(15) {
		inWorks(t, func(t *testing.T, wo *works) {
			random := rand.New(rand.NewPCG(seed, 1))
			initial := uint32(random.IntN(100_000))
			p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial})
			p.Hold()
			var adopted, others []uint32
			for range 300 {
				switch n := random.Int64N(40_000); random.IntN(9) {
				case 0:
					if len(adopted) < 8 {
						adopted = append(adopted, p.Ask("GET", "/", nil))
					}
				case 1:
					if len(others) < 8 {
						others = append(others, p.Ask("GET", "/bulk?"+strings.Repeat("9", 1+random.IntN(5)), nil))
					}
				case 2, 3:
					f.pour(strings.Repeat("x", int(n/8)))
				case 4, 5:
					p.Grant(0, 1+n)
				case 6:
					if all := append(append([]uint32(nil), adopted...), others...); len(all) > 0 {
						p.Grant(all[random.IntN(len(all))], 1+n)
					}
				case 7:
					if random.IntN(8) == 0 {
						initial += uint32(random.IntN(10_000))
						p.Resize(initial)
					}
				case 8:
					if all := append(append([]uint32(nil), adopted...), others...); len(all) > 0 && random.IntN(4) == 0 {
						p.Cancel(all[random.IntN(len(all))])
					}
				}
				synctest.Wait()
				if random.IntN(10) == 0 {
					pass(time.Duration(random.IntN(300)) * time.Millisecond)
				}
				f.balance(t, p.Account, adopted, func(id uint32) (window, came int64) {
					got := p.Got(id)
					return got.Window, int64(got.Body.Len())
				})
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
			p.Conn.Close()
		})
	}
}

// balance holds the connection's account against the client's, of all and of one stream, and net/http's.
func (f *fountain) balance(t *testing.T, account func() (granted, came int64), adopted []uint32, of func(uint32) (window, came int64)) {
	granted, came := account()
	var used int64 // by adopted streams
	f.mu.Lock()
	c, l := f.conn, f.ledger
	f.mu.Unlock()
	l.own.Lock()
	defer l.own.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range adopted {
		window, n := of(id)
		used += n
		if s := c.streams[id]; s != nil && s.window != window {
			t.Errorf("the window of stream %d is %d, and said to be %d", id, window, s.window)
		}
	}
	for _, a := range []struct {
		what      string
		got, want int64
	}{
		{"avail", c.avail, granted - came},
		{"granted", c.granted, l.granted - l.sent},
		{"waiting", c.waiting, l.sent - (came - used)},
		{"owed", c.owed, used - (granted - l.granted)},
	} {
		if c.visit == nil && (a.what == "granted" || a.what == "owed") {
			continue // nobody is told of it
		}
		if a.got != a.want {
			t.Errorf("%s is %d, want %d", a.what, a.got, a.want)
		}
	}
}
