package stream

import "sync/atomic"

// Limit is a bound on something that several share. A nil Limit, or a bound of 0, allows any number. Safe for concurrent use.
type Limit struct {
	most atomic.Int64
	used atomic.Int64
}

// NewLimit returns a bound of which nothing is taken.
func NewLimit(most int) *Limit {
	l := new(Limit)
	l.Set(most)
	return l
}

// Set changes the bound. What is taken above it stays taken until it is given back.
func (l *Limit) Set(most int) { l.most.Store(int64(most)) }

// Take returns false when the bound is reached. What was taken must be given back.
func (l *Limit) Take() bool {
	if l == nil {
		return true
	}
	if n, most := l.used.Add(1), l.most.Load(); most > 0 && n > most {
		l.used.Add(-1)
		return false
	}
	return true
}

// Give gives one back.
func (l *Limit) Give() {
	if l != nil {
		l.used.Add(-1)
	}
}

// Used is how many are taken.
func (l *Limit) Used() int { return int(l.used.Load()) }
