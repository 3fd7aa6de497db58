package learn

import (
	"slices"
	"strconv"
	"strings"

	"sidestream/translate/dialect"
)

// circle is conversations in a dialect that subscribe to the same, or to a part of it.
type circle struct {
	shapes   []string // of what most of them subscribe to
	members  []*Conversation
	speeches []speech
}

// spoken concludes routes from conversations in a dialect, one for each circle.
func (c *conclusion) spoken(p place, all []*Conversation, lang language) {
	for n, s := range c.circles(p, all, lang) {
		if n == mostVariants {
			c.note("WebSockets at one path subscribe in more than " + strconv.Itoa(mostVariants) + " ways: the others are left out")
			return
		}
		g := c.newGroup(p, s.members)
		d := c.draft(p, g, &lang)
		g.speak(d, lang, s.speeches)
		if !d.writable() {
			c.note("what is subscribed to at " + d.Old + " cannot be written: it is left out")
			continue
		}
		g.closes(d)
		c.drafts = append(c.drafts, d)
	}
}

// circles reads conversations, and sorts them by what they subscribe to.
func (c *conclusion) circles(p place, all []*Conversation, lang language) (out []circle) {
	for _, conv := range all {
		s := lang.read(conv)
		shapes := s.subscriptions()
		switch {
		case s.wrong != "":
			c.note(p.spoken + ": " + s.wrong)
			continue
		case len(shapes) == 0 && needsSubscription(p.spoken):
			pattern, _ := wildcards(p.shape)
			c.note("WebSockets at " + pattern + " speak " + p.spoken + ", and in some of them nothing was subscribed to: they are left out" + elsewhere(p.spoken))
			continue
		}
		i := slices.IndexFunc(out, func(have circle) bool { return subset(shapes, have.shapes) || subset(have.shapes, shapes) })
		if i < 0 {
			i = len(out)
			out = append(out, circle{})
		}
		if len(shapes) > len(out[i].shapes) {
			out[i].shapes = shapes
		}
		out[i].members, out[i].speeches = append(out[i].members, conv), append(out[i].speeches, s)
	}
	return out
}

// subscriptions are the shapes of what is subscribed to.
func (s *speech) subscriptions() (shapes []string) {
	for _, it := range s.items {
		if it.kind == subscribes {
			shapes = append(shapes, it.shapeOf())
		}
	}
	return shapes
}

// writable reports whether the dialect takes what was concluded of CONNECT and SUBSCRIBE.
func (d *draft) writable() bool {
	lines := strings.FieldsFunc(d.Get("SUBSCRIBE"), func(r rune) bool { return r == '\n' })
	if needsSubscription(d.Protocol) && len(lines) == 0 {
		return false
	}
	for i, line := range lines {
		lines[i] = ours.ReplaceAllString(line, "0")
	}
	spoken, err := dialect.Find(d.Protocol)
	return err == nil && (spoken.Check == nil || spoken.Check(ours.ReplaceAllString(d.Get("CONNECT"), "0"), lines) == nil)
}

func needsSubscription(name string) bool {
	name = strings.TrimPrefix(name, "sockjs+")
	return name != "webpubsub" && !strings.HasPrefix(name, "signalr") && !strings.HasPrefix(name, "socket.io")
}

func subset(small, large []string) bool {
	return !slices.ContainsFunc(small, func(s string) bool { return !slices.Contains(large, s) })
}

// elsewhere says where subscriptions may be that WebSockets do not hold.
func elsewhere(protocol string) string {
	if protocol == "bayeux" {
		return " (until its WebSocket is open, a client may subscribe by a request; load the page once more, or write SUBSCRIBE by hand)"
	}
	return ""
}
