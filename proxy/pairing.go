// This file compares one old client with its stream; see parity.go for the rules.

package proxy

import (
	"context"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/migrate"
	"sidestream/proxy/stream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// compare compares an old client with its stream until one of them ends, or the route does.
func (p *parities) compare(ctx context.Context, c *oldClient) {
	defer c.Closed(0)
	k := &pairing{oldClient: c, seed: maphash.MakeSeed(), events: make(chan sse.Event, parityQueue), log: c.route.deliver.Log}
	k.c.Equal, k.c.Tell = func(_, _ *migrate.Item) { c.route.Compared.counts[migrate.Equal].Add(1) }, k.differs
	k.c.Wait, k.c.Brief = patience(c.route.RouteSettings, p.wait)
	look := time.NewTicker(parityLook)
	defer look.Stop()
	defer k.unread()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			k.drain(ctx)
			k.settle()
			return
		case h := <-c.heard:
			k.old(ctx, h)
		case e := <-k.events:
			k.new(e)
		case <-look.C:
			if c.over.Over() || c.over.Polls() && time.Since(time.Unix(c.last.Load(), 0)) > pollGone || p.table().named(c.route.Name) != c.route {
				return
			}
			k.settle()
			k.attend(ctx)
		}
	}
}

// pairing is one comparison that runs. It is used by one goroutine, but for what is said.
type pairing struct {
	*oldClient
	c      migrate.Comparison
	seed   maphash.Seed
	log    *slog.Logger
	events chan sse.Event
	ahead  atomic.Int64 // bytes of events that wait
	missed atomic.Bool  // an event could not be taken
	there  bool         // the old client has what the route asks for
	up     bool         // the stream's upstream was connected, once
	doc    any          // with MODE=patch: as of the last event

	looked  time.Time // when settle was called last
	resumed time.Time // when the process went on after it had not run for a while

	ring    *stream.Ring // that is read; nil: none
	stop    context.CancelFunc
	reading sync.WaitGroup
}

// attend reads the ring of the stream as it is now, which may be another one than before: a stream ends when its last client has left.
func (k *pairing) attend(ctx context.Context) {
	if here := k.over.Listening(); here != k.there {
		if k.there = here; here {
			k.c.There(false, time.Now())
		} else {
			k.c.Away(false)
		}
	}
	ring := k.route.Streams.Ring(k.req.Key)
	if ring == k.ring {
		k.connected()
		return
	}
	if k.ring != nil {
		k.unread()
		k.taken()
		k.forgive()
		k.ring = nil
		k.c.Away(true)
	}
	if ring == nil {
		return
	}
	k.ring, k.doc, k.up = ring, nil, false
	at, _ := ring.Last()
	if k.route.Upstream.Patches() {
		at = stream.Begin // with the document as it is
	}
	k.connected()
	ctx, k.stop = context.WithCancel(ctx)
	k.reading.Go(func() { // ends with ctx, or with the ring
		_, _ = deliver.Copy(ctx, ring, at, &ringReader{k: k, decoder: sse.NewDecoder(migrate.MaxMessage)})
	})
}

// connected notes that the stream is there once its upstream is, which may take long: what the old client gets before, the stream has never been sent. That it
// is interrupted later a gap says.
func (k *pairing) connected() {
	if k.ring != nil && !k.up && !k.route.Upstream.Patches() && k.route.Streams.Connected(k.req.Key) {
		k.up = true
		k.c.There(true, time.Now())
	}
}

// unread stops reading.
func (k *pairing) unread() {
	if k.ring != nil {
		k.stop()
		k.reading.Wait()
	}
}

// taken takes what was read of a stream that is not there any more.
func (k *pairing) taken() {
	for {
		select {
		case e := <-k.events:
			k.new(e)
		default:
			return
		}
	}
}

// settle decides about what has waited for long enough. What has come since a client polled last it may get yet, or has left before. Where the process
// itself did not run for a while (stopped, starved, a machine that slept), what waited meanwhile waits as long again: its equal may lie unread.
func (k *pairing) settle() {
	k.forgive()
	now := time.Now()
	clock := now.Round(0) // which goes on while a machine sleeps
	if !k.looked.IsZero() && clock.Sub(k.looked) > 2*parityLook {
		k.resumed = now
	}
	if k.looked = clock; now.Sub(k.resumed) < k.c.Patience() {
		return
	}
	if k.over.Polls() {
		now = time.Unix(k.last.Load(), 0)
	}
	k.c.Settle(now)
}

// forgive takes back what was to have its equal, since something was left out on one of both sides.
func (k *pairing) forgive() {
	if k.lost.Swap(false) && k.there {
		k.c.Away(false)
		k.c.There(false, time.Now())
	}
	if k.missed.Swap(false) && k.ring != nil {
		k.c.Away(true)
		k.c.There(true, time.Now())
	}
}

// ringReader hands the events of a ring on. It never waits.
type ringReader struct {
	k       *pairing
	decoder *sse.Decoder
}

func (r *ringReader) Write(p []byte) (int, error) {
	r.decoder.Decode(p, func(e sse.Event) {
		size := int64(len(e.Data))
		if e.TooLarge || r.k.ahead.Load()+size > parityBytes {
			r.k.missed.Store(true)
			return
		}
		select {
		case r.k.events <- e:
			r.k.ahead.Add(size)
		default:
			r.k.missed.Store(true)
		}
	})
	return len(p), nil
}

// drain takes what has come on both sides.
func (k *pairing) drain(ctx context.Context) {
	for {
		select {
		case h := <-k.heard:
			k.old(ctx, h)
		case e := <-k.events:
			k.new(e)
		default:
			return
		}
	}
}

// old takes what the old client was sent.
func (k *pairing) old(ctx context.Context, h heardOf) {
	k.held.Add(-int64(len(h.data)))
	k.forgive()
	if h.asked {
		k.over.Asked(h.data, h.binary)
		return
	}
	var ms []translate.Message
	if h.status != 0 {
		ms = k.over.Body(ctx, h.status, h.head, h.data)
	} else {
		ms = k.over.Frame(ctx, h.at, h.data, h.binary)
	}
	for _, m := range ms {
		if name, data, ok := asTold(m); ok {
			k.add(false, name, data, h.at)
		}
	}
}

// asTold is a message as a client of the stream reads it, a patch as what it leads to; not a gap.
func asTold(m translate.Message) (name string, data []byte, ok bool) {
	if m.Gap != "" {
		return "", nil, false
	}
	name, data = m.Event, m.Data
	if m.State != nil && (name == translate.EventSnapshot || name == translate.EventPatch) {
		name, data = translate.EventSnapshot, m.State
	}
	sse.NewDecoder(len(data)+len(name)+1<<10).Decode(sse.AppendEvent(nil, "", name, data), func(e sse.Event) { name, data, ok = e.Name, e.Data, true })
	return name, data, ok
}

// new takes an event of the stream.
func (k *pairing) new(e sse.Event) {
	k.ahead.Add(-int64(len(e.Data)))
	if e.Name == "stream.gap" {
		k.missed.Store(true)
	}
	k.forgive()
	switch {
	case strings.HasPrefix(e.Name, "stream."):
		return
	case k.route.Upstream.Patches() && (e.Name == translate.EventSnapshot || e.Name == translate.EventPatch):
		first := k.doc == nil
		text, doc, err := patched(k.doc, e)
		if k.doc = doc; err != nil {
			k.missed.Store(true)
			return
		}
		if first {
			k.c.There(true, time.Now())
		}
		k.add(true, translate.EventSnapshot, text, time.Now())
		return
	}
	k.add(true, e.Name, e.Data, time.Now())
}

// patched is the document that an event leads to.
func patched(doc any, e sse.Event) (text []byte, now any, err error) {
	if e.Name == translate.EventSnapshot {
		now, err = translate.ParseJSON(e.Data)
	} else {
		now, err = translate.ApplyPatch(doc, e.Data)
	}
	if err == nil {
		text, err = translate.Written(now)
	}
	return text, now, err
}

func (k *pairing) add(isNew bool, name string, data []byte, at time.Time) {
	k.c.Add(isNew, migrate.Item{Name: name, Hash: migrate.Hash(k.seed, name, migrate.Canonical(data)), At: at})
}

// differs counts a difference, and says that there is one.
func (k *pairing) differs(d migrate.Difference) {
	k.route.Compared.counts[d.Result].Add(1)
	if more, ok := k.route.Compared.noisy.Allow(); ok {
		k.log.Warn("old clients do not get what the stream emits; compare shows where", "result", d.Result, "suppressed", more)
	}
}
