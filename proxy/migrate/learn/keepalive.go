package learn

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	replyWithin = time.Second     // from a message to the reply to it
	pongWithin  = 5 * time.Second // from a ping to its answer
)

// habit is what clients do again and again: a shape of their messages, and what it is for.
type habit struct {
	shape   string
	trigger string        // shape of the service's message that it answers; "" for a ping
	every   time.Duration // how often a ping is sent; 0: it was seen once
	places  [][2]int      // conversation and message
	asked   []int         // the message that each of them answers, in its conversation
}

// habits are the replies and pings in talks.
func habits(talks []*talk) (replies, pings []habit) {
	byShape := map[string][][2]int{}
	var order []string
	for c, t := range talks {
		for i, s := range t.all {
			if s.FromClient {
				if byShape[s.shape] == nil {
					order = append(order, s.shape)
				}
				byShape[s.shape] = append(byShape[s.shape], [2]int{c, i})
			}
		}
	}
	for _, shape := range order {
		h := habit{shape: shape, places: byShape[shape]}
		if h.trigger, h.asked = trigger(talks, h.places); h.trigger != "" {
			replies = append(replies, h)
		} else if every, ok := steady(talks, h.places); ok {
			h.every = every
			pings = append(pings, h)
		}
	}
	return replies, pings
}

// trigger finds what the client's messages at places answer: the shape of the service's messages, and which they are; "" when they are no answers.
func trigger(talks []*talk, places [][2]int) (shape string, asked []int) {
	first, last := talks[places[0][0]], lastOf(places)
	for _, at := range first.likely(places[0][1]) {
		shape = first.all[at].shape
		looks := first.all[at].pings()
		if asked = answeredBy(talks, places, shape); asked == nil {
			continue
		}
		all := 0
		for c, t := range talks {
			for i, s := range t.all {
				end, some := last[c]
				if !s.FromClient && s.shape == shape && (!some || i < end) { // the last one may not be answered yet
					all++
				}
			}
		}
		often := len(places) > len(conversationsOf(places)) // more than once in some conversation
		if (looks || often) && len(places)*10 >= all*8 {
			return shape, asked
		}
	}
	return "", nil
}

// lastOf is the last of places in each conversation.
func lastOf(places [][2]int) map[int]int {
	last := map[int]int{}
	for _, p := range places {
		last[p[0]] = max(last[p[0]], p[1])
	}
	return last
}

// likely are the messages that i may answer, the likeliest first: those that look like pings, those that have an id that it has, the latest.
func (t *talk) likely(i int) []int {
	all := t.lately(i)
	slices.SortStableFunc(all, func(a, b int) int { return t.unlikely(a, i) - t.unlikely(b, i) })
	return all
}

func (t *talk) unlikely(asked, answer int) int {
	switch {
	case t.all[asked].pings():
		return 0
	case t.all[answer].answers(&t.all[asked]):
		return 1
	}
	return 2
}

// answeredBy are the messages of a shape that those at places may answer; nil when one of them answers none.
func answeredBy(talks []*talk, places [][2]int, shape string) (asked []int) {
	for _, p := range places {
		t := talks[p[0]]
		at := slices.IndexFunc(t.lately(p[1]), func(i int) bool { return t.all[i].shape == shape })
		if at < 0 {
			return nil
		}
		asked = append(asked, t.lately(p[1])[at])
	}
	return asked
}

// mostLately is how many messages may come between a question and the answer to it.
const mostLately = 16

// lately are the service's messages shortly before i, the latest first, since the client's last one like it.
func (t *talk) lately(i int) (all []int) {
	for n := i - 1; n >= 0 && len(all) < mostLately && t.all[i].At.Sub(t.all[n].At) <= replyWithin; n-- {
		if t.all[n].FromClient {
			if t.all[n].shape == t.all[i].shape {
				break
			}
			continue
		}
		all = append(all, n)
	}
	return all
}

func conversationsOf(places [][2]int) (all []int) {
	for _, p := range places {
		if !slices.Contains(all, p[0]) {
			all = append(all, p[0])
		}
	}
	return all
}

// steady reports whether the messages at places are sent at regular intervals, and at which.
func steady(talks []*talk, places [][2]int) (every time.Duration, ok bool) {
	var gaps []time.Duration
	for i := 1; i < len(places); i++ {
		if places[i][0] == places[i-1][0] {
			gaps = append(gaps, talks[places[i][0]].all[places[i][1]].At.Sub(talks[places[i-1][0]].all[places[i-1][1]].At))
		}
	}
	first := talks[places[0][0]].all[places[0][1]]
	if strings.Contains(strings.ToLower(first.kind()), "pong") { // it answers something
		return 0, false
	}
	looks := first.pings()
	if len(gaps) == 0 {
		return 0, looks
	}
	middle, regular := rhythm(gaps)
	return middle, (regular && len(gaps) >= 2 || looks) && middle >= 20*time.Millisecond
}

// rhythm is what gaps are meant to be, and whether most of them are close to it. The mean of those that are, since what a busy machine adds to one
// it takes from the next.
func rhythm(gaps []time.Duration) (every time.Duration, regular bool) {
	middle := slices.Sorted(slices.Values(gaps))[len(gaps)/2]
	var sum, near time.Duration
	for _, g := range gaps {
		if (g - middle).Abs() <= max(middle/4, min(jitter, middle/2)) {
			sum, near = sum+g, near+1
		}
	}
	return round(sum / max(near, 1)), int(near)*3 > len(gaps)*2 && middle > 0
}

// jitter is what a busy machine adds to a client's timers, or takes from them.
const jitter = 100 * time.Millisecond

// round is d as somebody may have written it: the roundest that is as good as d, within a sixteenth.
func round(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{5 * time.Second, time.Second, 500 * time.Millisecond, 100 * time.Millisecond, 50 * time.Millisecond} {
		if r := d.Round(unit); (r - d).Abs() <= d/16 {
			return r
		}
	}
	return max(d.Round(10*time.Millisecond), 10*time.Millisecond)
}

// span writes d as settings have it.
func span(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	if d%time.Second == 0 {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	return strconv.Itoa(int(d/time.Millisecond)) + "ms"
}

// keepalive sets REPLY, PING, PING_EVERY and PONG, and returns the conditions of the messages that are no events.
func (g *group) keepalive(d *draft) (control []string) {
	var programs []string
	for _, h := range g.replies {
		condition, answer := g.tells(h.trigger), g.reply(h)
		if condition == "" || answer == "" {
			d.note("the client answers messages of the service, and nothing tells these from others, or the answer is secret; write REPLY yourself")
			continue
		}
		programs = append(programs, "select("+condition+")|"+answer)
		control = append(control, condition)
		d.note("REPLY: seen %d×", len(h.places))
	}
	d.set("REPLY", strings.Join(programs, ", "))
	for n, h := range g.pings {
		if n > 0 {
			d.note("the client sends a second message regularly, each %s; PING is one alone", span(h.every))
			continue
		}
		g.ping(d, h)
	}
	return control
}

// reply is jq for what the client answers with: the message itself, in which what the service's message had is taken from it. "": it is secret.
func (g *group) reply(h habit) string {
	p := h.places[0]
	answer := &g.talks[p[0]].all[p[1]]
	if !answer.json {
		if text := string(answer.Data); !g.private("", text) {
			return program(text)
		}
		return ""
	}
	texts := map[int]string{}
	for i, l := range answer.leaves {
		texts[i] = g.echo(h, i, l)
	}
	return string(compact([]byte(replace(answer.Data, answer.leaves, texts))))
}

// echo is jq for one value of a reply.
func (g *group) echo(h habit, i int, l leaf) string {
	asked := &g.talks[h.places[0][0]].all[h.asked[0]]
	for _, from := range asked.leaves {
		if from.text != l.text || from.quoted != l.quoted || isKind(from) && isKind(l) {
			continue
		}
		if g.always(h, i, from.path) && (len(h.places) > 1 || idKeys.MatchString(l.key) || len(l.text) >= leastEqual) {
			return from.path
		}
	}
	if !l.quoted {
		return l.text
	}
	if g.private(l.key, l.text) {
		return `""`
	}
	return quote(l.text)
}

// always reports whether leaf i of each reply is what stands at path in the message that it answers.
func (g *group) always(h habit, i int, path string) bool {
	for n, p := range h.places {
		answer, asked := &g.talks[p[0]].all[p[1]], &g.talks[p[0]].all[h.asked[n]]
		from, ok := asked.get(path)
		if !ok || i >= len(answer.leaves) || answer.leaves[i].text != from.text {
			return false
		}
	}
	return true
}

// program is jq for a text, which is sent as it is.
func program(text string) string {
	if _, ok := parsed([]byte(text)); ok && !strings.HasPrefix(strings.TrimSpace(text), `"`) {
		return strings.TrimSpace(text)
	}
	return quote(text)
}

// ping sets PING and what belongs to it.
func (g *group) ping(d *draft, h habit) {
	var frames []*said
	for _, p := range h.places {
		frames = append(frames, &g.talks[p[0]].all[p[1]])
	}
	text, ok := g.counting(frames)
	if !ok {
		d.note("the client sends something regularly, each %s, that cannot be written in one line; write PING yourself", span(h.every))
		return
	}
	d.set("PING", text)
	if h.every > 0 {
		d.set("PING_EVERY", span(h.every))
	}
	d.note("PING: seen %d×", len(frames))
	d.set("PONG", g.pong(h))
}

// counting is the template of messages that are sent again and again: numbers that differ are counted.
func (g *group) counting(frames []*said) (text string, ok bool) {
	first := frames[0]
	if !first.json {
		if g.private("", string(first.Data)) {
			return "", false
		}
		return g.line(string(first.Data), "")
	}
	texts := map[int]string{}
	for i, l := range first.leaves {
		same := true
		for _, f := range frames {
			same = same && i < len(f.leaves) && f.leaves[i].text == l.text
		}
		switch {
		case !l.quoted && l.depth == 1 && g.counted(l.key):
			texts[i] = "{stream.n}"
		case same && !g.private(l.key, l.text):
		case l.quoted:
			texts[i] = `"{stream.n}"`
		default:
			texts[i] = "{stream.n}"
		}
	}
	return g.line(replace(first.Data, first.leaves, texts), "")
}

// pong is jq for the answer to pings, "" when there is none that nothing else looks like.
func (g *group) pong(h habit) string {
	shape := ""
	for _, p := range h.places {
		t := g.talks[p[0]]
		answer := t.after(p[1], pongWithin, func(s *said) bool { return s.pings() || s.answers(&t.all[p[1]]) })
		switch {
		case answer < 0 && p[1] >= len(t.all)-2: // it may have been cut off
		case answer < 0 || shape != "" && t.all[answer].shape != shape:
			return ""
		default:
			shape = t.all[answer].shape
		}
	}
	if shape == "" {
		return ""
	}
	return g.tells(shape)
}

// after is the index of the service's first message after i, not later than within, that is what is looked for; -1 when there is none before
// the client's next message.
func (t *talk) after(i int, within time.Duration, is func(*said) bool) int {
	for n := i + 1; n < len(t.all); n++ {
		s := &t.all[n]
		if s.FromClient && s.shape == t.all[i].shape || s.At.Sub(t.all[i].At) > within {
			return -1
		}
		if !s.FromClient && is(s) {
			return n
		}
	}
	return -1
}
