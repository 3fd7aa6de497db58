package stream

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// maxMemory is how many messages are remembered at most of streams of a route that have ended.
const maxMemory = 1 << 16

// memory is what is known of the messages that the streams of a route were sent, by the streams' keys. It outlives a stream by the time that a
// key is remembered: a client repeats a message once it is back, and by then the stream that had it may have ended. Streams that replace others
// share theirs. The zero value has none. Safe for concurrent use.
type memory struct {
	mu       sync.Mutex // guards what follows, and the fields of keys that say so
	byStream map[[sha256.Size]byte]*keys
	gone     list.List // of ended: those that no stream uses, the one that ended first in front
	held     int       // messages of these
}

// ended are the keys of a stream that has ended.
type ended struct {
	stream [sha256.Size]byte
	keys   *keys
	at     time.Time
	size   int
}

// find is take, where something is known; else it is nil, and nothing is to be given back.
func (m *memory) find(stream [sha256.Size]byte) *keys {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byStream[stream] == nil {
		return nil
	}
	return m.use(stream)
}

// take returns what is known of the stream with this key, which is to be given back.
func (m *memory) take(stream [sha256.Size]byte) *keys {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.use(stream)
}

func (m *memory) use(stream [sha256.Size]byte) *keys {
	m.sweep(time.Now())
	k := m.byStream[stream]
	switch {
	case k == nil:
		k = new(keys)
		if m.byStream == nil {
			m.byStream = map[[sha256.Size]byte]*keys{}
		}
		m.byStream[stream] = k
	case k.gone != nil:
		m.held -= m.gone.Remove(k.gone).(ended).size
		k.gone = nil
	}
	k.users++
	return k
}

// give gives k back, which was taken for stream.
func (m *memory) give(stream [sha256.Size]byte, k *keys) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k.users--; k.users > 0 {
		return
	}
	now, size := time.Now(), k.size()
	if size == 0 {
		delete(m.byStream, stream)
	} else {
		k.gone = m.gone.PushBack(ended{stream, k, now, size})
		m.held += size
	}
	m.sweep(now)
}

// sweep forgets what is too old, or too much. mu is held.
func (m *memory) sweep(now time.Time) {
	for e := m.gone.Front(); e != nil; e = m.gone.Front() {
		first := e.Value.(ended)
		if m.held <= maxMemory && now.Sub(first.at) < keyTime {
			return
		}
		m.gone.Remove(e)
		m.held -= first.size
		delete(m.byStream, first.stream)
	}
}
