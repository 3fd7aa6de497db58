package h2

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/e2e/pipes"
	"sidestream/proxy/deliver/h2/h2test"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// TestEveryByte has adopted streams with windows of all sizes beside requests of other kinds, over sockets, while streams come and go.
func TestEveryByte(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wo := newWorks(t, l)
	var running sync.WaitGroup
	for n := range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Minute))
		p := h2test.New(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 100, 1 << 20}[n]})
		eventually(t, "it is accepted", func() bool { wo.mu.Lock(); defer wo.mu.Unlock(); return len(wo.fountains) == n+1 })
		f := wo.fountain(n)
		running.Go(func() {
			var ids []uint32
			for range 10 {
				id := p.Ask("GET", "/", nil)
				ids = append(ids, id)
				p.Grant(id, 1+rand.Int64N(5000))
			}
			for i := range 60 {
				f.pour(fmt.Sprint(i, " is ", string(h2test.Bulk(rand.IntN(3000)))))
				size := 1 + rand.IntN(200_000)
				big := p.Ask("GET", fmt.Sprintf("/bulk?%d", size), nil)
				p.Grant(big, 1<<20)
				gone := p.Ask("GET", "/", nil) // on its way out
				if i%2 == 0 {
					<-time.After(time.Millisecond)
				}
				p.Cancel(gone)
				if n == 0 && i%10 == 0 { // windows that shrink, and grow again
					p.Resize(0)
					p.Resize(uint32(rand.IntN(3000)))
				}
				eventually(t, "the download", func() bool { return p.Got(big).Ended })
				if got := p.Got(big); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(size)) {
					t.Errorf("a download of %d bytes came as %d others", size, got.Body.Len())
				}
			}
			for _, id := range ids {
				p.Grant(id, 1<<24)
			}
			f.end()
			for _, id := range ids {
				eventually(t, "the end", func() bool { got := p.Got(id); return got.Ended || got.Reset != 0 })
				f.mu.Lock()
				want := f.poured[f.joined[id]:]
				f.mu.Unlock()
				if got := p.Got(id); got.Reset != 0 || !bytes.Equal(got.Body.Bytes(), want) {
					t.Errorf("stream %d got %d bytes of %d, reset: %v", id, got.Body.Len(), len(want), got.Reset)
				}
			}
		})
	}
	running.Wait()
	wo.close()
}

// FuzzConn: whatever a client sends, the connection ends with it, and no stream is left.
func FuzzConn(f *testing.F) {
	for _, sent := range h2test.Seeds() {
		f.Add(sent)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		inWorks(t, func(t *testing.T, wo *works) {
			ours, theirs := net.Pipe()
			wo.l.(*pipes.Listener).Offer(theirs)
			synctest.Wait()
			go io.Copy(io.Discard, ours) // ends with ours
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(ours, Preface)
			half := len(sent) / 2
			ours.Write(sent[:half])
			pass(2 * parkFirst)
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			ours.Write(sent[half:])
			wo.fountains[0].pour("1")
			synctest.Wait()
			wo.fountains[0].pour("2")
			pass(time.Second)
			ours.Close()
			synctest.Wait()
			if n := wo.fountain(0).conn.Adopted(); n != 0 {
				t.Errorf("%d streams are left", n)
			}
		})
	})
}
