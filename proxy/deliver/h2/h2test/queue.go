package h2test

import (
	"net"
	"os"
	"sync"
	"time"
)

const queueMost = 64 << 10 // bytes

// Queue is a connection whose reads need not wait, as those of a socket: what comes is read in a goroutine, which ends with it.
type Queue struct {
	net.Conn

	mu       sync.Mutex // guards what follows
	change   sync.Cond
	came     []byte
	err      error
	deadline time.Time
	timer    *time.Timer
	arrived  func() // nil: reads wait
}

// NewQueue reads c.
func NewQueue(c net.Conn) *Queue {
	q := &Queue{Conn: c}
	q.change.L = &q.mu
	go q.run() // ends with c
	return q
}

func (q *Queue) run() {
	for p := make([]byte, 4096); ; {
		n, err := q.Conn.Read(p)
		q.mu.Lock()
		q.came, q.err = append(q.came, p[:n]...), err
		q.change.Broadcast()
		for len(q.came) > queueMost && q.err == nil {
			q.change.Wait()
		}
		arrived := q.arrived
		q.mu.Unlock()
		if arrived != nil {
			arrived()
		}
		if err != nil {
			return
		}
	}
}

// Patient has reads wait, as they do at first, or with a function not: that is called when something has come.
func (q *Queue) Patient(arrived func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arrived = arrived
}

// Read fails with [os.ErrDeadlineExceeded] where there is nothing to read for now, and reads do not wait.
func (q *Queue) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if !q.deadline.IsZero() && !time.Now().Before(q.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		if len(q.came) > 0 {
			n := copy(p, q.came)
			q.came = q.came[n:]
			q.change.Broadcast()
			return n, nil
		}
		if q.err != nil {
			return 0, q.err
		}
		if q.arrived != nil {
			return 0, os.ErrDeadlineExceeded
		}
		q.change.Wait()
	}
}

// SetReadDeadline is net.Conn's.
func (q *Queue) SetReadDeadline(t time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
	}
	if q.deadline = t; !t.IsZero() {
		q.timer = time.AfterFunc(time.Until(t), q.change.Broadcast)
	}
	q.change.Broadcast()
	return nil
}

// SetDeadline is net.Conn's.
func (q *Queue) SetDeadline(t time.Time) error {
	q.SetReadDeadline(t)
	return q.Conn.SetWriteDeadline(t)
}

// Close is net.Conn's.
func (q *Queue) Close() error {
	err := q.Conn.Close()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = net.ErrClosed
	q.change.Broadcast()
	return err
}
