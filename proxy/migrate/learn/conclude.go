package learn

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// mapsKeys are m's keys.
func mapsKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

const (
	mostRoutes   = 64 // in one report
	mostVariants = 8  // of one path
)

// Probed is what the service said when it was asked which cookies matter to it: by path, as [Report] has it in Old, and the cookie's name.
type Probed map[string]map[string]bool

// Conclude makes a report of what was seen. probed may be nil. It changes nothing of o.
func Conclude(o *Observation, probed Probed) Report {
	c := conclusion{o: o, probed: probed, httpOnly: map[string]bool{}}
	c.know()
	c.webSockets()
	c.polls()
	c.finish()
	return c.report
}

// conclusion is a report that is being made.
type conclusion struct {
	o        *Observation
	probed   Probed
	vault    vault
	httpOnly map[string]bool // cookies that the service hides from scripts
	report   Report
	drafts   []*draft
}

// know collects what is secret, and which cookies are for no script.
func (c *conclusion) know() {
	for _, conv := range c.o.Conversations {
		c.vault.ask(&conv.Request)
		c.vault.authorized(&conv.Request)
		c.report.Seen.WebSockets++
	}
	for _, a := range c.o.Answers {
		c.vault.ask(&a.Request)
		for _, name := range a.Set {
			c.httpOnly[name] = true
		}
		c.report.Seen.Answers++
	}
	c.report.Seen.Messages, c.report.Full = c.o.Messages, c.o.Full
	c.report.Notes = append(c.report.Notes, c.o.Notes...)
}

func (c *conclusion) note(text string) {
	if len(c.report.Notes) < maxNotes && !slices.Contains(c.report.Notes, text) {
		c.report.Notes = append(c.report.Notes, text)
	}
}

// place is where a conversation was held: at one path of one service, in one dialect.
type place struct{ host, shape, spoken string }

func (c *conclusion) webSockets() {
	at := map[place][]*Conversation{}
	for _, conv := range c.o.Conversations {
		p := place{conv.Base, shape(conv.Path), spoken(conv)}
		if !learnable(p.shape) {
			c.note("WebSockets at paths that are not plain are left out")
			continue
		}
		at[p] = append(at[p], conv)
	}
	for _, members := range c.families(at) {
		c.at(members.place, members.all)
	}
}

// members are conversations of one place, whose path may have turned out to vary.
type members struct {
	place
	all []*Conversation
}

// families merges places whose paths differ in one segment that varies.
func (c *conclusion) families(at map[place][]*Conversation) (out []members) {
	byKind := map[place][]string{} // without the shape
	for p := range at {
		kind := place{p.host, "", p.spoken}
		byKind[kind] = append(byKind[kind], p.shape)
	}
	merged := map[place][]*Conversation{}
	for kind, shapes := range byKind {
		slices.Sort(shapes)
		became := merge(shapes, func(a, b string) bool {
			kind.shape = a
			first := at[kind][0]
			kind.shape = b
			return alike(first, at[kind][0])
		})
		for _, s := range shapes {
			to := place{kind.host, cmp.Or(became[s], s), kind.spoken}
			merged[to] = append(merged[to], at[place{kind.host, s, kind.spoken}]...)
		}
	}
	for _, p := range slices.SortedFunc(mapsKeys(merged), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.shape, b.shape), cmp.Compare(a.spoken, b.spoken))
	}) {
		all := merged[p]
		slices.SortStableFunc(all, func(a, b *Conversation) int { return a.At.Compare(b.At) })
		out = append(out, members{p, all})
	}
	return out
}

// alike reports whether two conversations begin with messages of one shape, so that their paths may be one.
func alike(a, b *Conversation) bool {
	first := func(c *Conversation, fromClient bool) string {
		for _, f := range c.Frames {
			if f.FromClient == fromClient {
				s := newSaid(f)
				return s.shape
			}
		}
		return ""
	}
	return first(a, true) == first(b, true) && first(a, false) == first(b, false)
}

// newGroup is a group of conversations at p.
func (c *conclusion) newGroup(p place, all []*Conversation) *group {
	var talks []*talk
	for _, conv := range all {
		talks = append(talks, newTalk(conv))
	}
	return c.groupOf(p, talks)
}

// groupOf is a group of conversations at p, whose messages were looked at.
func (c *conclusion) groupOf(p place, talks []*talk) *group {
	g := &group{asks: &asks{}, talks: talks, vault: &c.vault}
	_, g.names = wildcards(p.shape)
	for _, t := range talks {
		g.all = append(g.all, &t.Request)
		g.parts = append(g.parts, values(t.Path, p.shape))
	}
	return g
}

// at concludes the routes for the conversations at one place.
func (c *conclusion) at(p place, all []*Conversation) {
	heard := slices.DeleteFunc(slices.Clone(all), func(conv *Conversation) bool { return len(conv.Frames) == 0 })
	if len(heard) == 0 {
		pattern, _ := wildcards(p.shape)
		c.note("WebSockets at " + pattern + " had no messages (Firefox exports none): nothing is concluded from them")
		return
	}
	inner, over := strings.CutPrefix(p.spoken, "sockjs")
	if inner = strings.TrimPrefix(inner, "+"); over {
		heard = unwrapped(heard)
	}
	if lang, ok := languages[cmp.Or(inner, p.spoken)]; ok && p.spoken != "sockjs" {
		c.spoken(p, heard, lang)
		return
	}
	c.raw(p, heard)
}

// unwrapped are conversations without SockJS around them.
func unwrapped(all []*Conversation) (out []*Conversation) {
	for _, conv := range all {
		inner := *conv
		inner.Frames = unwrapSockJS(conv.Frames)
		out = append(out, &inner)
	}
	return out
}

// raw concludes a route for each way in which conversations open.
func (c *conclusion) raw(p place, all []*Conversation) {
	all, separator := records(all)
	g := c.newGroup(p, all)
	g.replies, g.pings = habits(g.talks)
	g.opening()
	bySignature := map[string][]*talk{}
	var order []string
	for _, t := range g.talks {
		s := t.signature()
		if bySignature[s] == nil {
			order = append(order, s)
		}
		bySignature[s] = append(bySignature[s], t)
	}
	order = leaveShort(order, bySignature)
	for n, s := range order {
		if n == mostVariants {
			c.note("WebSockets at one path open in more than " + strconv.Itoa(mostVariants) + " ways: the others are left out")
			return
		}
		part := c.groupOf(p, bySignature[s])
		part.separator = separator
		part.replies, part.pings = habits(part.talks)
		part.opening()
		if part.signature() != s { // fewer conversations show fewer habits
			part.replies, part.pings = part.inherit(g.replies), part.inherit(g.pings)
			part.opening()
		}
		d := c.draft(p, part, nil)
		part.raw(d)
		c.drafts = append(c.drafts, d)
	}
}

// leaveShort leaves out openings that are the beginning of another one: such a connection was cut, or the page was left.
func leaveShort(order []string, by map[string][]*talk) []string {
	return slices.DeleteFunc(slices.Clone(order), func(s string) bool {
		return slices.ContainsFunc(order, func(other string) bool {
			return other != s && (s == "" && !received(by[s]) || s != "" && strings.HasPrefix(other, s+"\n") && !received(by[s]))
		})
	})
}

// received reports whether the service has sent more than answers in any of these.
func received(talks []*talk) bool {
	return slices.ContainsFunc(talks, func(t *talk) bool { return t.Received > len(t.open)+leastTraffic })
}

// signature is that of all conversations of g.
func (g *group) signature() string { return g.talks[0].signature() }

// inherit is habits for the conversations of g that a larger group has.
func (g *group) inherit(all []habit) (out []habit) {
	for _, h := range all {
		own := h
		own.places, own.asked = nil, nil
		for c, t := range g.talks {
			for i, s := range t.all {
				if !s.FromClient || s.shape != h.shape {
					continue
				}
				asked := answeredBy(g.talks, [][2]int{{c, i}}, h.trigger)
				if h.trigger == "" || asked != nil {
					own.places, own.asked = append(own.places, [2]int{c, i}), append(own.asked, asked...)
				}
			}
		}
		if len(own.places) > 0 {
			out = append(out, own)
		}
	}
	return out
}

// draft begins a route for g.
func (c *conclusion) draft(p place, g *group, lang *language) *draft {
	shape := strings.TrimSuffix(p.shape, "/{sockjs}")
	pattern, _ := wildcards(shape)
	d := &draft{base: c.o.Base, host: p.host, socket: c.o.Socket, httpOnly: c.httpOnly, asked: c.probed[pattern], vault: &c.vault}
	d.Old, d.Transport, d.Protocol, d.Seen = pattern, "websocket", p.spoken, len(g.talks)
	at := pattern
	var leave func(string) bool
	if lang != nil && lang.path != nil {
		at = lang.path(at)
	}
	if lang != nil {
		leave = lang.query
	}
	var t *ticket
	if p.spoken == "raw" {
		t = c.ticket(g)
	}
	if t != nil {
		leave = func(name string) bool { return name == t.name }
	}
	from := g.address(d.service(true), at, leave)
	if p.spoken == "signalr" && !g.negotiated() {
		from += map[bool]string{true: "&", false: "?"}[strings.Contains(from, "?")] + "id="
	}
	d.set("FROM", from)
	if p.spoken != "raw" {
		d.set("PROTOCOL", p.spoken)
	}
	if t != nil {
		d.tickets(g, t, from)
	}
	g.subprotocol(d)
	d.credentials(g.asks)
	g.counts(d)
	return d
}

// negotiated reports whether clients of a hub have asked for a connection before they dialled it.
func (g *group) negotiated() bool {
	_, ok := value(g.all[0].Query, "id")
	return ok
}

// subprotocol sets SUBPROTOCOL where raw messages are spoken under one.
func (g *group) subprotocol(d *draft) {
	chosen := g.talks[0].Subprotocol
	switch {
	case chosen == "" || !tokenName.MatchString(strings.ReplaceAll(chosen, ".", "-")):
	case d.Protocol == "raw" && !random(chosen), chosen == "actioncable-v1-ext-json":
		d.set("SUBPROTOCOL", chosen)
	}
	if offered := g.all[0].Header.Get("Sec-Websocket-Protocol"); d.Protocol == "raw" && chosen == "" && offered != "" {
		d.note("the client offers subprotocols, and the service chooses none: SUBPROTOCOL offers some")
	}
}

// counts notes what the conclusions are made of.
func (g *group) counts(d *draft) {
	compressed := 0
	for _, t := range g.talks {
		d.Messages += t.Received
		if t.Compressed {
			compressed++
		}
	}
	if compressed > 0 {
		d.note("%d of %d WebSockets are compressed (permessage-deflate); the route asks for none", compressed, len(g.talks))
	}
}
