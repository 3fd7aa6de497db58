//go:build linux && !portable

package deliver

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2"
	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// TestH2EveryByte has clients with windows of all sizes, in one connection with requests of other kinds, that come and go.
func TestH2EveryByte(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lo := &loom{bench: &bench{t: t, route: Pacing{Heartbeat: time.Second, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}}
	lo.ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 1 << 20, Bytes: 1 << 30}, &lo.stats, false)
	stop := serving(&lo.clients, l, lo, nil, nil)
	const events = 1500
	var running sync.WaitGroup
	for n := range 3 {
		running.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Minute))
			p := h2test.New(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 100, 1 << 20}[n]})
			var ids []uint32
			for range 10 {
				id := p.Ask("GET", "/", nil)
				ids = append(ids, id)
				p.Grant(id, 1+rand.Int64N(5000))
			}
			for i := range 60 {
				size := 1 + rand.IntN(200_000)
				big := p.Ask("GET", fmt.Sprintf("/bulk?%d", size), nil)
				p.Grant(big, 1<<20)
				gone := p.Ask("GET", "/", nil) // on its way out
				if i%2 == 0 {
					<-time.After(time.Millisecond)
				}
				p.Write(func(f *http2.Framer) error { return f.WriteRSTStream(gone, http2.ErrCodeCancel) })
				if n == 0 && i%10 == 0 { // windows that shrink, and grow again
					for _, v := range []uint32{0, uint32(rand.IntN(3000))} {
						p.Resize(v)
					}
				}
				eventually(t, "the download", func() bool { got := p.Got(big); return got.Ended })
				if got := p.Got(big); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(size)) {
					t.Errorf("a download of %d bytes came as %d others", size, got.Body.Len())
				}
			}
			for _, id := range ids {
				p.Grant(id, 1<<24)
			}
			for _, id := range ids {
				eventually(t, "the end", func() bool { got := p.Got(id); return got.Ended || got.Reset != 0 })
				at := 0
				for _, text := range p.Lines(id) {
					if data, ok := strings.CutPrefix(text, "data: "); ok {
						if data != payload(at) {
							t.Errorf("event %d is %.40q", at, data)
							return
						}
						at++
					}
				}
				if got := p.Got(id); at != events || got.Reset != 0 {
					t.Errorf("%d of %d events, reset: %v", at, events, got.Reset)
				}
			}
		})
	}
	for i := range events {
		lo.ring.Append(translate.Message{Data: []byte(payload(i))})
		if i%50 == 0 {
			<-time.After(10 * time.Millisecond)
		}
	}
	lo.ring.Close(stream.End{Kind: stream.Finished})
	running.Wait()
	stop()
	if n := lo.route.Stats.Clients.Load(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// FuzzH2: whatever a client sends, the connection ends with it, and no client is left.
func FuzzH2(f *testing.F) {
	for _, sent := range h2test.Seeds() {
		f.Add(sent)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			lo := newLoom(t, stream.Bounds{})
			ours, theirs := net.Pipe()
			lo.l.Offer(newCarrier(theirs, &lo.clients, nil))
			go io.Copy(io.Discard, ours) // ends with ours
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(ours, h2.Preface)
			ours.Write(sent)
			lo.ring.Append(say("1"))
			synctest.Wait()
			lo.ring.Append(say("2"))
			pass(time.Second)
			ours.Close()
			synctest.Wait()
			if n := lo.route.Stats.Clients.Load(); n != 0 {
				t.Errorf("%d clients are left", n)
			}
			lo.close()
		})
	})
}
