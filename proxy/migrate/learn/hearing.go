package learn

import (
	"slices"
	"sync"

	"sidestream/proxy/migrate"
)

// lastOnes is how many of a service's latest messages are at hand when its client says something.
const lastOnes = 4

// hearing is a conversation that is under way.
type hearing struct {
	learner *Learner

	mu     sync.Mutex // guards what follows, against Observe
	conv   Conversation
	first  int             // frames of the service that are kept
	beside int             // frames of the service that are still to be kept, since the client has said something
	last   [lastOnes]Frame // of the service, that were not kept; their Data is reused
	has    int             // of these, from next on backwards
	next   int
	enough bool
	most   int // messages of the service that are heard; 0: any number. Set before the first
}

// Hear is [migrate.Hearer]'s.
func (h *hearing) Hear(m migrate.Message) {
	h.learner.messages.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.FromClient {
		h.conv.Sent++
	} else {
		h.conv.Received++
	}
	if h.enough {
		return
	}
	switch {
	case m.FromClient:
		for ; h.has > 0; h.has-- {
			h.keep(frameOf(h.last[(h.next+lastOnes-h.has)%lastOnes]))
		}
		h.beside = 3
		h.keep(m)
	case h.first < maxFirst:
		h.first++
		h.keep(m)
	case h.beside > 0:
		h.beside--
		h.keep(m)
	default:
		h.remember(m)
		return
	}
	h.has = 0
}

// frameOf is f as it was heard.
func frameOf(f Frame) migrate.Message {
	return migrate.Message{At: f.At, FromClient: f.FromClient, Binary: f.Binary, Skipped: f.Cut, Data: f.Data}
}

// keep keeps a message.
func (h *hearing) keep(m migrate.Message) {
	f := Frame{At: m.At, FromClient: m.FromClient, Binary: m.Binary, Cut: m.Skipped || len(m.Data) > maxFrame}
	if !f.Cut {
		if !h.learner.reserve(len(m.Data) + 64) {
			h.enough = true
			return
		}
		f.Data = slices.Clone(m.Data)
	}
	h.conv.Frames = append(h.conv.Frames, f)
	h.enough = len(h.conv.Frames) >= maxFrames || h.tired(m)
}

// remember holds on to a message until a few more have come, in case the client answers it.
func (h *hearing) remember(m migrate.Message) {
	f := &h.last[h.next]
	f.At, f.Binary, f.Cut = m.At, m.Binary, m.Skipped || len(m.Data) > maxFrame
	if f.Data = f.Data[:0]; !f.Cut {
		f.Data = append(f.Data, m.Data...)
	}
	h.next, h.has = (h.next+1)%lastOnes, min(h.has+1, lastOnes)
	h.enough = h.tired(m)
}

// tired reports whether m comes so late, or after so many others, that what there is to learn was there.
func (h *hearing) tired(m migrate.Message) bool {
	n := h.conv.Sent + h.conv.Received
	return n >= mostMessages || n >= leastMessages && m.At.Sub(h.conv.At) >= longEnough
}

// Closed is [migrate.Hearer]'s.
func (h *hearing) Closed(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conv.Over, h.conv.Code = true, code
	h.last, h.has = [lastOnes]Frame{}, 0
}

// Enough is [migrate.Sated]'s. To inflate the messages of a service costs half as much again as to pass them on, and each may refer to those before it: so they
// are heard to the end in the first conversations of a path alone.
func (h *hearing) Enough(fromClient bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.enough || !fromClient && h.most > 0 && h.conv.Received >= h.most
}

// snapshot is the conversation as it is now.
func (h *hearing) snapshot() *Conversation {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conv
	c.Frames = slices.Clone(c.Frames) // their data stays as it is
	return &c
}
