package redis

import (
	"sync"
	"time"
)

// peak is the longest of the times that were noted within the last minute or two, whoever asks for it, and how often. The zero value has noted
// none. Safe for concurrent use.
type peak struct {
	mu          sync.Mutex
	minute      time.Time // when the current one began
	now, before time.Duration
}

// note notes a time.
func (p *peak) note(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	p.now = max(p.now, d)
}

// longest is the longest time that was noted in this minute and the one before; 0 if none was.
func (p *peak) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	return max(p.now, p.before)
}

// turn begins another minute when the current one is over. mu is held.
func (p *peak) turn() {
	at := time.Now()
	switch over := at.Sub(p.minute); {
	case over < time.Minute:
		return
	case over < 2*time.Minute:
		p.before = p.now
	default:
		p.before = 0
	}
	p.minute, p.now = at, 0
}
