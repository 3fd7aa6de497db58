package learn

import (
	"slices"
	"strings"
	"time"

	"sidestream/translate/decode"
)

const (
	openingWithin = 5 * time.Second  // how long after the beginning, or after what was sent last, something belongs to the opening
	answerWithin  = 10 * time.Second // what is no answer to it any more
	answerFrames  = 12               // likewise
	leastTraffic  = 3                // messages after which it counts that something did not come again
)

// group is conversations of one route that speaks no dialect of its own, or whose dialect is taken off.
type group struct {
	*asks
	talks          []*talk
	replies, pings []habit
	vault          *vault
	separator      string   // SEPARATOR; "" for none
	state          []string // programs of STATE
	stateNames     map[string]string
	told           map[string]string // conditions, by shape
}

// habitual reports whether a client's message is a reply or a ping.
func (g *group) habitual(s *said) bool {
	is := func(h habit) bool { return h.shape == s.shape }
	return slices.ContainsFunc(g.replies, is) || slices.ContainsFunc(g.pings, is)
}

// opening finds what each client has sent to begin with.
func (g *group) opening() {
	for _, t := range g.talks {
		t.open = nil
		last := t.At
		if len(t.all) > 0 && t.At.IsZero() {
			last = t.all[0].At
		}
		for i := range t.all {
			s := &t.all[i]
			if !s.FromClient || g.habitual(s) {
				continue
			}
			if s.At.Sub(last) > openingWithin || len(t.open) == maxSteps {
				break
			}
			t.open, last = append(t.open, i), s.At
		}
	}
}

const maxSteps = 32

// signature is equal for conversations that open alike.
func (t *talk) signature() string {
	var shapes []string
	for _, i := range t.open {
		shapes = append(shapes, t.all[i].shape)
	}
	return strings.Join(shapes, "\n")
}

// raw concludes a route from g, whose conversations open alike.
func (g *group) raw(d *draft) {
	d.set("SEPARATOR", g.separator)
	control := g.keepalive(d)
	refused := g.refused()
	taken := g.hello(d, refused)
	if len(g.state) > 0 {
		d.set("STATE", strings.Join(g.state, ", "))
	}
	g.events(d, append(control, taken...))
	g.binary(d)
	g.closes(d)
	g.late(d)
}

// hello sets HELLO, and returns the conditions of messages that belong to the opening and come again later.
func (g *group) hello(d *draft, refused []bool) (control []string) {
	steps := len(g.talks[0].open)
	if steps == 0 {
		return nil
	}
	var lines []string
	if w := g.welcome(); w != "" {
		lines = append(lines, "< "+w)
	}
	refusal := g.refusal(refused)
	if refusal != "" {
		lines = append(lines, "! "+refusal)
	}
	for n := range steps {
		text, ok := g.sent(d, n)
		if !ok {
			d.note("the client opens with a message that cannot be written in one line: step %d is missing in HELLO", n+1)
			continue
		}
		if w := g.needs(n); w != "" && !slices.Contains(lines, "< "+w) {
			lines = append(lines, "< "+w)
		}
		lines = append(lines, text)
		if w := g.acknowledged(n, refused); w != "" {
			lines = append(lines, "< "+w)
			if g.comesLater(w, n) {
				control = append(control, w)
			}
		}
	}
	d.set("HELLO", "\n"+strings.Join(lines, "\n")+"\n")
	if len(g.talks) > 1 {
		d.note("HELLO: seen in %d WebSockets", len(g.talks))
	}
	return control
}

// between are the service's messages from after i to the next of the opening, within bounds.
func (t *talk) between(n int) (from, to int) {
	from = 0
	if n >= 0 {
		from = t.open[n] + 1
	}
	to = len(t.all)
	if n+1 < len(t.open) {
		return from, t.open[n+1]
	}
	for i := from; i < to; i++ {
		if i-from >= answerFrames || n >= 0 && t.all[i].At.Sub(t.all[t.open[n]].At) > answerWithin {
			return from, i
		}
	}
	return from, to
}

// shapesIn are the shapes of the service's messages in a part of t.
func (t *talk) shapesIn(from, to int) (shapes []string) {
	for _, s := range t.all[from:to] {
		if !s.FromClient && !slices.Contains(shapes, s.shape) {
			shapes = append(shapes, s.shape)
		}
	}
	return shapes
}

// first is the first message of a shape from the service in a part of t.
func (t *talk) first(shape string, from, to int) *said {
	for i := from; i < to; i++ {
		if s := &t.all[i]; !s.FromClient && s.shape == shape {
			return s
		}
	}
	return nil
}

// welcome is the condition of what the service says before the client does, where clients wait for it.
func (g *group) welcome() string {
	from, to := g.talks[0].between(-1)
	for _, shape := range g.talks[0].shapesIn(from, to) {
		if g.everywhere(-1, shape, nil) && !g.triggers(shape) && welcomeLike.MatchString(g.talks[0].first(shape, from, to).kind()) {
			return g.tells(shape)
		}
	}
	return ""
}

// everywhere reports whether all conversations but those that leave out have a message of this shape in step n.
func (g *group) everywhere(n int, shape string, leave []bool) bool {
	for i, t := range g.talks {
		if leave != nil && leave[i] {
			continue
		}
		if from, to := t.between(n); t.first(shape, from, to) == nil {
			return false
		}
	}
	return true
}

func (g *group) triggers(shape string) bool {
	return slices.ContainsFunc(g.replies, func(h habit) bool { return h.trigger == shape })
}

// once reports whether messages of this shape come in step n alone, in conversations that last long enough for that to mean something.
func (g *group) once(shape string, n int, refused []bool) bool {
	long := false
	for i, t := range g.talks {
		if from, to := t.between(n); t.first(shape, from, to) != nil && !t.first(shape, from, to).json {
			return false // each text is another one
		}
		if refused[i] {
			continue
		}
		from, to := t.between(n)
		count, later := 0, 0
		for j, s := range t.all {
			if !s.FromClient && s.shape == shape {
				count++
			}
			if !s.FromClient && j >= to && s.shape != shape {
				later++
			}
		}
		if f := t.first(shape, from, to); f == nil || count != 1 {
			return false
		}
		long = long || later+(to-from)-1 >= leastTraffic
	}
	return long
}

// acknowledged is the condition of what answers step n.
func (g *group) acknowledged(n int, refused []bool) string {
	var lead *talk
	for i, t := range g.talks {
		if !refused[i] {
			lead = t
			break
		}
	}
	if lead == nil {
		return ""
	}
	from, to := lead.between(n)
	question := &lead.all[lead.open[n]]
	for _, sure := range []bool{true, false} {
		for _, shape := range lead.shapesIn(from, to) {
			s := lead.first(shape, from, to)
			if !g.everywhere(n, shape, refused) || g.triggers(shape) || s.pings() || s.refuses() {
				continue
			}
			if sure && s.answers(question) || !sure && (s.accepts() && !g.floods(shape) || s.echoes(question) && g.once(shape, n, refused)) {
				if condition := g.tells(shape); condition != "" {
					return condition
				}
			}
		}
	}
	return ""
}

// floods reports whether messages of this shape are what the feed is made of.
func (g *group) floods(shape string) bool {
	count, all := 0, 0
	for _, t := range g.talks {
		for _, s := range t.all {
			if !s.FromClient {
				all++
				if s.shape == shape {
					count++
				}
			}
		}
	}
	return count > 2*len(g.talks)*max(1, len(g.talks[0].open)) && count*2 > all
}

// comesLater reports whether a message that answers step n is there again after the opening.
func (g *group) comesLater(condition string, n int) bool {
	for _, t := range g.talks {
		seen := map[string]int{}
		for _, s := range t.all {
			if !s.FromClient {
				seen[s.shape]++
			}
		}
		from, to := t.between(n)
		for _, shape := range t.shapesIn(from, to) {
			if seen[shape] > len(t.open) && g.tells(shape) == condition {
				return true
			}
		}
	}
	return false
}

// refused tells which conversations the service has refused: it said so, and little else after.
func (g *group) refused() []bool {
	out := make([]bool, len(g.talks))
	for i, t := range g.talks {
		if len(t.open) == 0 {
			continue
		}
		after := 0
		for j := len(t.all) - 1; j > t.open[0]; j-- {
			s := &t.all[j]
			if s.FromClient {
				continue
			}
			if s.refuses() && after <= 1 && t.Over {
				out[i] = true
			}
			after++
		}
	}
	return out
}

// refusal is the condition of what refuses; "" when that was not seen.
func (g *group) refusal(refused []bool) string {
	for i, t := range g.talks {
		if !refused[i] {
			continue
		}
		for j := len(t.all) - 1; j >= 0; j-- {
			if s := &t.all[j]; !s.FromClient && s.refuses() {
				return g.tells(s.shape)
			}
		}
	}
	return ""
}

// late notes what clients send when the opening is over.
func (g *group) late(d *draft) {
	n := 0
	for _, t := range g.talks {
		for i := range t.all {
			if s := &t.all[i]; s.FromClient && !g.habitual(s) && !slices.Contains(t.open, i) {
				n++
			}
		}
	}
	if n > 0 {
		d.note("clients send messages of their own later, %d were seen: SEND=true takes them as POSTs", n)
	}
}

// binary sets BINARY where the service sends binary messages that are text, and DECODE where all of them are compressed alike.
func (g *group) binary(d *draft) {
	binary, text, all := 0, 0, 0
	packed := map[decode.Step]int{}
	for _, t := range g.talks {
		for i := range t.all {
			s := &t.all[i]
			if s.FromClient {
				continue
			}
			all++
			if s.packed != "" {
				packed[s.packed]++
				binary++
			}
			if s.Binary {
				binary++
				if s.json || isText(s.Data) {
					text++
				}
			}
		}
	}
	for step, n := range packed {
		if n == binary {
			d.set("DECODE", string(step))
			d.note("%d of %d messages are binary, and compressed: DECODE=%s", binary, all, step)
			return
		}
	}
	switch {
	case binary == 0:
	case text == binary:
		d.set("BINARY", "text")
		d.note("%d of %d messages are binary, and text: BINARY=text", binary, all)
	default:
		d.note("%d of %d messages are binary: events have them in base64, unless DECODE or BINARY=drop", binary, all)
	}
}

func isText(data []byte) bool {
	for _, b := range data {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' {
			return false
		}
	}
	return strings.ToValidUTF8(string(data), "") == string(data)
}

var newlines = lazily(`[\r\n\x00-\x1f]`)
