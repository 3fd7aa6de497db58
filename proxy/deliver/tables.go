package deliver

import (
	"sync"

	"sidestream/proxy/stream"
)

// Key is what the clients of one stream have in common: [upstream.Request].Key.
type Key = [32]byte

// Tables seat clients beside others that read the same stream: they need no seat of their own in it, nor to wait for the
// upstream's verdict, which is known. The zero value has none. Safe for concurrent use. The rules:
//
//   - A table is a ring's, and holds one seat in its stream until the last of its clients has disconnected.
//   - No client is seated at one whose stream is over, or about to be, or retiring: what that means for it is the stream's to say.
//   - Which of a table's clients disconnects makes no difference, as Client.Leave demands.
type Tables struct {
	mu     sync.Mutex // guards what follows, and the tables
	byRing map[*stream.Ring]*table
	byKey  map[Key]*table // where the next client sits
}

type table struct {
	Client
	key    Key
	guests int
}

// Beside returns a client like those that read the stream of key, but for where it begins. false: there are none, or the
// stream takes no more.
func (t *Tables) Beside(key Key) (Client, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.byKey[key]
	if tb == nil || tb.Ring.Complete() || closed(tb.Retiring) {
		return Client{}, false
	}
	tb.guests++
	return t.client(tb), true
}

// First seats a client that has a seat of its own, and returns it. invite: others may be seated beside it, since the
// verdict is known.
func (t *Tables) First(key Key, c Client, invite bool) Client {
	t.mu.Lock()
	tb := t.byRing[c.Ring]
	spare := c.Leave
	if tb == nil {
		if t.byRing == nil {
			t.byRing, t.byKey = map[*stream.Ring]*table{}, map[Key]*table{}
		}
		tb, spare = &table{Client: c, key: key}, func() {}
		t.byRing[c.Ring] = tb
	}
	if invite {
		t.byKey[key] = tb
	}
	tb.guests++
	first := t.client(tb)
	first.Cursor = c.Cursor
	t.mu.Unlock()
	spare() // one seat is enough
	return first
}

// client is one at tb.
func (t *Tables) client(tb *table) Client {
	c := tb.Client
	c.Cursor, c.Leave = stream.Begin, func() { t.leave(tb) }
	return c
}

func (t *Tables) leave(tb *table) {
	t.mu.Lock()
	tb.guests--
	empty := tb.guests == 0
	if empty {
		delete(t.byRing, tb.Ring)
		if t.byKey[tb.key] == tb {
			delete(t.byKey, tb.key)
		}
	}
	t.mu.Unlock()
	if empty {
		tb.Client.Leave()
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
