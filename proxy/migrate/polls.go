// This file tells clients that poll from each other, and from people who click.

package migrate

import (
	"hash/maphash"
	"maps"
	"net/http"
	"time"
)

// asker is a client of polls, on one path.
type asker struct {
	key     pathKey // where it is counted
	by      visitor
	last    time.Time
	every   time.Duration // 0: not known yet
	steady  int           // intervals in a row that were like the one before
	counted bool          // in total
}

// Asked notes a request for path by a client from address. known: the path is one that a route replaces.
func (l *Ledger) Asked(path string, known bool, address string, r *http.Request) {
	who := l.Who(path, address, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	q := l.askers[who]
	if q == nil {
		by := visitor{pageOf(r), browserOf(r.UserAgent())}
		if !l.room(now) {
			if known { // it is not told from others, but somebody is there
				l.account(pathKey{path, Poll}, now).see(by, now)
			}
			return
		}
		q = &asker{by: by, last: now}
		l.askers[who] = q
	} else if !q.again(now) {
		return
	}
	if !known && (q.steady < steadyFrom || q.every > mostEvery) {
		return
	}
	a := l.account(pathKey{path, Poll}, now)
	a.see(q.by, now)
	q.key, a.until = a.key, later(a.until, q.until())
	if !q.counted {
		q.counted = true
		a.total++
	}
}

// again notes another request, and reports whether it is one of its own.
func (q *asker) again(now time.Time) bool {
	gap := now.Sub(q.last)
	if gap < burst {
		return false
	}
	q.last = now
	switch {
	case q.every > 0 && gap > q.every/3 && gap < 3*q.every:
		q.steady++
		q.every = (3*q.every + gap) / 4
	default:
		q.steady, q.every = 1, gap
	}
	return true
}

// until is how long it is to be expected again.
func (q *asker) until() time.Time {
	within := firstPoll
	if q.every > 0 {
		within = max(3*min(q.every, mostEvery), leastPoll)
	}
	return q.last.Add(within)
}

func (q *asker) there(now time.Time) bool { return now.Before(q.until()) }

// room makes room for another asker, if there is any. It looks for it once a second at most: that takes long, and each request may want it. mu is
// held.
func (l *Ledger) room(now time.Time) bool {
	if len(l.askers) < maxAskers {
		return true
	}
	if now.Sub(l.looked) < lookEvery {
		return false
	}
	l.looked = now
	maps.DeleteFunc(l.askers, func(_ uint64, q *asker) bool { return !q.there(now) })
	return len(l.askers) < maxAskers
}

// Who tells clients of polls apart: by what is asked for, their address, their User-Agent and their cookies.
func (l *Ledger) Who(path, address string, r *http.Request) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	for _, part := range []string{path, address, r.UserAgent()} {
		h.WriteString(part)
		h.WriteByte(0)
	}
	for _, line := range r.Header["Cookie"] {
		h.WriteString(line)
	}
	return h.Sum64()
}
