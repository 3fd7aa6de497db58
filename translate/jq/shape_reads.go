package jq

import "slices"

// This file is what of an object a shape looks at, so that no more than that has to be made of a message.

// reads is what a part reads of the object that it is given. The zero value is all of it.
type reads struct {
	known   bool
	members []string // with known: these alone, and not which others there are
	itself  bool     // an output may be that object
}

// readsNone is that of a part that reads nothing.
var readsNone = reads{known: true}

// within is what is read by a part that gives the same to all of several, of which out are those whose outputs are its own: of an output of another one no more
// matters than whether it is there, so that it must not be the object.
func within(out []part, others ...part) (r reads) {
	r.known = true
	for i, p := range append(slices.Clip(out), others...) {
		if !p.reads.known || i >= len(out) && p.reads.itself {
			return reads{}
		}
		r.itself = r.itself || p.reads.itself
		for _, name := range p.reads.members {
			if !slices.Contains(r.members, name) {
				r.members = append(r.members, name)
			}
		}
	}
	return r
}

// through is what l | r reads.
func through(l, r part) reads {
	if !l.reads.known || l.reads.itself && !r.reads.known {
		return reads{}
	}
	if !l.reads.itself {
		return within([]part{l})
	}
	both := within([]part{l, r})
	both.itself = r.reads.itself
	return both
}

// Reads returns the members that p reads of an object, where it is known that it reads nothing else of that; itself: its output may be the object, which is then
// only to be passed on.
func (p *Program) Reads() (members []string, itself, known bool) {
	return p.shape.reads.members, p.shape.reads.itself, p.shape.reads.known
}
