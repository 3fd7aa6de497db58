package stream

import (
	"slices"

	"sidestream/translate"
)

// This file is who waits for a ring to grow. The rules:
//
//   - Watchers are told within the ring's lock: they note it, and have somebody else look.
//   - Carriers, which write to many clients, are told after it, and may write at once where who appends has nothing else to do: the way to another goroutine
//     costs more than an event for one client.
//   - Both are told once of what is appended at once, but before that could be evicted.

type watcher struct{ wake func() }

type carrier struct{ grown func(near bool) }

// Wake has the watchers woken as if the ring had grown: something else about its stream has changed.
func (r *Ring) Wake() {
	r.mu.Lock()
	defer r.unlock(false)
	r.wake()
}

// wake is followed by unlock. mu is held.
func (r *Ring) wake() { r.woken = true }

// mostNear bounds the carriers that whoever appends does the work of.
const mostNear = 4

// unlock lets go of mu, and tells whoever waits if the ring has grown.
func (r *Ring) unlock(near bool) {
	woken, carriers := r.woken, r.carriers
	r.woken, r.unsaid = false, unsaid{}
	if woken {
		for w := range r.watchers {
			w.wake()
		}
	}
	r.mu.Unlock()
	if !woken {
		return
	}
	near = near && len(carriers) <= mostNear
	for _, c := range carriers {
		c.grown(near)
	}
}

// AppendMore is Append by who has more to append at once. Nobody is woken before the next append, also one of no messages, which must come without a wait; or
// once what was not said is a good part of what the ring keeps.
func (r *Ring) AppendMore(ms ...translate.Message) {
	r.mu.Lock()
	r.put(ms)
	if r.unsaid.most(r.bounds) {
		r.unlock(false)
		return
	}
	r.mu.Unlock()
}

// unsaid is what was appended since the last wake.
type unsaid struct{ events, bytes int }

// most reports whether it is as much as may be: so many that what comes next might evict them.
func (u unsaid) most(b Bounds) bool {
	return u.events >= 64 || b.Events > 0 && u.events >= b.Events/4 || b.Bytes > 0 && u.bytes >= b.Bytes/4
}

// Watch has wake called after each append, or after several that come at once, and at the end, until stop. wake must not block, nor call the ring.
func (r *Ring) Watch(wake func()) (stop func()) {
	w := &watcher{wake}
	r.mu.Lock()
	if r.watchers == nil {
		r.watchers = map[*watcher]struct{}{}
	}
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		delete(r.watchers, w)
		r.mu.Unlock()
	}
}

// Carry is Watch for what writes to many clients. grown may call the ring, and may be called once more after stop; near: who calls it waits for nothing else and
// may do the work itself, as far as that does not block.
func (r *Ring) Carry(grown func(near bool)) (stop func()) {
	c := &carrier{grown}
	r.mu.Lock()
	r.carriers = append(slices.Clip(r.carriers), c)
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.carriers = slices.DeleteFunc(slices.Clone(r.carriers), func(one *carrier) bool { return one == c })
		r.mu.Unlock()
	}
}
