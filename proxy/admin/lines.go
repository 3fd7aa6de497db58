package admin

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on the lines that wait for their reader.
const (
	maxLines     = 4096
	maxLineBytes = 4 << 20
)

// Lines writes log lines without ever making their writer wait: what reads them may be slow, stuck or gone, and streams go
// on. Lines that find the queue full, or cannot be written, are lost and counted. Write, Lost and Close may be called by
// any goroutine; Run is called once.
type Lines struct {
	To   io.Writer
	Said func(lost int64) // called after lines were lost, once others are written again; nil: not said
	Tail *Tail            // what the dashboard shows of them, and their level; nil: nothing

	mu     sync.Mutex // guards what follows
	queue  [][]byte
	size   int
	closed bool
	once   sync.Once
	some   chan struct{} // has a value when there is something to write, or closed is set
	done   chan struct{} // closed when Run has returned
	lost   atomic.Int64
}

func (l *Lines) init() {
	l.once.Do(func() { l.some, l.done = make(chan struct{}, 1), make(chan struct{}) })
}

// Lost is how many lines were lost since the start.
func (l *Lines) Lost() int64 { return l.lost.Load() }

// Write takes one line, or drops it. It neither waits nor fails.
func (l *Lines) Write(line []byte) (int, error) {
	l.init()
	l.mu.Lock()
	full := l.closed || len(l.queue) >= maxLines || l.size+len(line) > maxLineBytes
	if !full {
		l.queue = append(l.queue, append([]byte(nil), line...))
		l.size += len(line)
	}
	l.mu.Unlock()
	if full {
		l.lost.Add(1)
		return len(line), nil
	}
	l.wake()
	return len(line), nil
}

func (l *Lines) wake() {
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// Run writes until Close, and what waits then.
func (l *Lines) Run() {
	l.init()
	defer close(l.done)
	var said int64
	works := false // the last line was written
	for range l.some {
		batch, closed := l.take()
		if lost := l.lost.Load(); works && l.Said != nil && lost > said { // now that there is room for it
			l.Said(lost - said)
			said = lost
		}
		for _, line := range batch {
			_, err := l.To.Write(line)
			if works = err == nil; !works {
				l.lost.Add(1)
			}
		}
		if closed {
			return
		}
		if works && l.Said != nil && l.lost.Load() > said {
			l.wake() // to say so
		}
	}
}

// take returns what waits, and whether nothing more will come.
func (l *Lines) take() (batch [][]byte, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch = l.queue
	l.queue, l.size = nil, 0
	return batch, l.closed
}

// Close has Run write what waits and return, and waits for that for at most patience: a reader that is stuck may not keep
// the process from ending.
func (l *Lines) Close(patience time.Duration) {
	l.init()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
	}
}
