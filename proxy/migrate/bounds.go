// This file bounds what the ledger keeps: paths give way to others, and become one where their last segments are names.

package migrate

import (
	"strings"
	"time"
)

// parentOf is what is before the last segment of a path, with the slash; "" for [Other].
func parentOf(path string) string { return path[:strings.LastIndexByte(path, '/')+1] }

// siblings makes paths that differ in their last segment only one, if they are many: these are names. mu is held.
func (l *Ledger) siblings(parent string) {
	if parent == "" || l.merged[parent] {
		return
	}
	var all []*account
	names := map[string]bool{}
	for key, a := range l.paths {
		if _, known := l.place(key); a.stray && !known && parentOf(key.path) == parent {
			all = append(all, a)
			names[key.path] = true
		}
	}
	if len(names) <= maxSiblings {
		return
	}
	if len(l.merged) >= maxPaths {
		clear(l.merged)
	}
	l.merged[parent] = true
	for _, a := range all {
		l.merge(a)
	}
}

// merge makes a part of what its path is counted under now. mu is held.
func (l *Ledger) merge(a *account) {
	to, _ := l.place(a.key)
	if to == a.key {
		return
	}
	delete(l.paths, a.key)
	l.strays--
	whole := l.account(to, a.last())
	a.into = whole
	whole.open += a.open
	whole.total += a.total
	whole.until = later(whole.until, a.until)
	for by, at := range a.seen {
		as := whole.see(by, at)
		if n := a.now[by]; n > 0 {
			whole.now[as] += n
		}
	}
	for _, q := range l.askers {
		if q.key == a.key {
			q.key = whole.key
		}
	}
}

// last is when a client was seen last; one that is connected is not looked for.
func (a *account) last() (last time.Time) {
	for _, at := range a.seen {
		last = later(last, at)
	}
	return last
}

// evict makes the path that was used least lately part of [Other], and reports whether there is one that nobody is on and that was used before
// at. mu is held.
func (l *Ledger) evict(at time.Time) bool {
	var oldest *account
	now := time.Now()
	for key, a := range l.paths {
		if !a.stray || a.open > 0 || now.Before(a.until) {
			continue
		}
		if last := a.last(); last.Before(at) {
			if _, known := l.place(key); !known {
				oldest, at = a, last
			}
		}
	}
	if oldest == nil {
		return false
	}
	delete(l.paths, oldest.key)
	l.strays--
	other := l.account(pathKey{Other, oldest.key.transport}, at)
	other.total += oldest.total
	for by, at := range oldest.seen {
		other.see(by, at)
	}
	return true
}
