// This file asks the application again about clients that are here (REVALIDATE). The rules:
//
//   - The next question about a pass is put so early that its answer is there before the last one's time is over: what the application
//     has ended gets nothing more than REVALIDATE later.
//   - One goroutine for a route looks at a heap of what is due. Questions are put by at most so many at once.
//   - No answer changes nothing: those who are here stay, and are asked for again soon.
//   - 401 and 403 refuse the clients. Other claims than before have them come back: their stream is another one's now.

package access

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	askersMost = 64               // questions put again at once, of one route
	retryLeast = time.Second      // after a question that was not answered
	retryMost  = 30 * time.Second // the same
)

// entered has p asked for again, from its first client on.
func (g *Guard) entered(p *Pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.place == 0 {
		g.schedule(p)
	}
}

// schedule has p asked for again when that is due. mu is held.
func (g *Guard) schedule(p *Pass) {
	if g.alive.Err() != nil || p.Standing() != Stays {
		return
	}
	// Between 5/8 and 6/8, so that those who came at once are not asked for at once for ever.
	g.at(p, p.asked.Add(g.Revalidate*5/8+rand.N(g.Revalidate/8+1)))
}

// at has p asked for again then. mu is held.
func (g *Guard) at(p *Pass, due time.Time) {
	g.due.remove(p)
	p.due = due
	heap.Push(&g.due, p)
	switch {
	case !g.again:
		g.again = true
		g.run.Go(g.revalidate) // ends with Close
	case g.due[0] == p:
		select {
		case g.sooner <- struct{}{}:
		default:
		}
	}
}

// revalidate asks again whatever is due, until the guard is closed.
func (g *Guard) revalidate() {
	askers := make(chan struct{}, askersMost)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-g.sooner:
		case <-g.alive.Done():
			return
		}
		wait := time.Hour
		for {
			p, left := g.nextDue()
			if p == nil {
				wait = left
				break
			}
			select {
			case askers <- struct{}{}:
			case <-g.alive.Done():
				return
			}
			g.start(func() { // ends with the question, or the guard
				defer func() { <-askers }()
				g.askAgain(p)
			})
		}
		timer.Reset(wait)
	}
}

// nextDue takes the next pass that is due; nil: none is for so long. Passes without clients are not asked for.
func (g *Guard) nextDue() (*Pass, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.sweep(now)
	for len(g.due) > 0 {
		p := g.due[0]
		if left := p.due.Sub(now); left > 0 {
			return nil, left
		}
		g.due.remove(p)
		if p.present() > 0 && p.Standing() == Stays {
			return p, 0
		}
	}
	return nil, time.Hour
}

// askAgain asks the application about a pass.
func (g *Guard) askAgain(p *Pass) {
	ctx, cancel := context.WithTimeout(g.alive, questionTime)
	defer cancel()
	answer, err := g.forward.ask(ctx, p.question)
	var denied *Denied
	switch {
	case errors.As(err, &denied):
		g.Stats.Revoked.Add(int64(g.dismiss(p, Standing(denied.Status))))
	case err != nil:
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.alive.Err() == nil {
			g.at(p, time.Now().Add(min(max(g.Revalidate/4, retryLeast), retryMost)))
		}
	case !slices.Equal(answer.claims, p.forward):
		g.dismiss(p, ComeBack)
	default:
		g.mu.Lock()
		defer g.mu.Unlock()
		p.asked = later(p.asked, answer.asked)
		g.schedule(p)
	}
}

// dismiss ends p for all that have it, of which it returns the number.
func (g *Guard) dismiss(p *Pass, s Standing) (clients int) {
	g.mu.Lock()
	g.forget(p)
	g.mu.Unlock()
	return p.End(s)
}

// passHeap is the passes that are asked for again, the one that is due first in front.
type passHeap []*Pass

func (h passHeap) Len() int           { return len(h) }
func (h passHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h passHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// Push is heap.Interface's.
func (h *passHeap) Push(p any) {
	*h = append(*h, p.(*Pass))
	p.(*Pass).place = len(*h)
}

// Pop is heap.Interface's.
func (h *passHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h, p.place = (*h)[:last], 0
	return p
}

// remove takes p out, if it is there.
func (h *passHeap) remove(p *Pass) {
	if p.place > 0 {
		heap.Remove(h, p.place-1)
	}
}
