package proxy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/merge"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// What a part brings between a client's coming and the merged stream's first reading of it is no past of the client's: it begins once that is in the ring, and
// comes back before long when it does not get there.
func TestMergedBegins(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 10}, &stream.Stats{}, true)
			g, c, s := &guest{}, &deliver.Client{Ring: ring, Cursor: stream.Begin, Lost: lost}, &set{left: func() {}}
			if lost {
				g.id = "another"
			}
			settled := make(chan bool, 1)
			settle := func() { settled <- s.settle(context.Background(), g, c) }
			go settle()
			synctest.Wait()
			select {
			case <-settled:
				t.Fatal("it begins before what the parts have is read")
			default:
			}
			time.Sleep(merge.ReadyTime / 2)
			ring.Append(translate.Message{Data: []byte("before")})
			if !<-settled {
				t.Fatal("it is there")
			}
			ring.Append(translate.Message{Data: []byte("after")})
			if events, _, missed, _ := ring.After(nil, c.Cursor); !lost && (len(events) != 1 || missed != 0) {
				t.Errorf("it gets %q and misses %d", events, missed)
			}
			c.Ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, &stream.Stats{}, true)
			go settle()
			time.Sleep(merge.ReadyTime + time.Millisecond)
			synctest.Wait()
			select {
			case there := <-settled:
				if there {
					t.Error("it begins where nothing is known")
				}
			default:
				t.Error("it waits for longer than it may")
			}
		})
	}
}
