// This file tells which requests are polls: the same GET asked by one client at a steady rhythm, or again as soon as it was answered.

package learn

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	leastAsked  = 3
	fastestPoll = 50 * time.Millisecond
	slowestPoll = 15 * time.Minute
	waitedFor   = 900 * time.Millisecond // an answer that takes so long was waited for
	askedAgain  = 400 * time.Millisecond // after the last answer, where it is at once
)

// sequence is what one client asked for again and again.
type sequence struct {
	answers []*Answer
	every   time.Duration // 0: at once after each answer
}

// pollAt is the polls of one path.
type pollAt struct {
	place
	sequences []sequence
	moving    []string // query names whose values go on
}

func (c *conclusion) polls() {
	at := map[place][]*Answer{}
	for _, a := range c.o.Answers {
		if cmp.Or(a.Method, "GET") == "GET" && (a.Status == 200 || a.Status == 304) {
			if p := (place{a.Base, shape(a.Path), ""}); learnable(p.shape) {
				at[p] = append(at[p], a)
			}
		}
	}
	for _, p := range c.pollFamilies(at) {
		c.poll(p)
	}
}

// pollFamilies finds the polls, and merges those whose paths differ in one segment that varies.
func (c *conclusion) pollFamilies(at map[place][]*Answer) (out []pollAt) {
	polled := map[place]pollAt{}
	hosts := map[string][]string{}
	for p, all := range at {
		slices.SortStableFunc(all, func(a, b *Answer) int { return a.At.Compare(b.At) })
		if unread(all) {
			pattern, _ := wildcards(p.shape)
			c.note("answers at " + pattern + " could not be read: they are compressed otherwise than by gzip, or larger than is kept")
			continue
		}
		moving := movingNames(all)
		if s := sequences(all, moving); len(s) > 0 {
			polled[p] = pollAt{p, s, moving}
			hosts[p.host] = append(hosts[p.host], p.shape)
		}
	}
	for host, shapes := range hosts {
		slices.Sort(shapes)
		became := merge(shapes, func(a, b string) bool {
			return topKeys(polled[place{host, a, ""}]) == topKeys(polled[place{host, b, ""}])
		})
		merged := map[string]pollAt{}
		for _, s := range shapes {
			to := cmp.Or(became[s], s)
			m := merged[to]
			m.place, m.moving = place{host, to, ""}, union(m.moving, polled[place{host, s, ""}].moving)
			m.sequences = append(m.sequences, polled[place{host, s, ""}].sequences...)
			merged[to] = m
		}
		for _, s := range slices.Sorted(mapsKeys(merged)) {
			out = append(out, merged[s])
		}
	}
	slices.SortStableFunc(out, func(a, b pollAt) int { return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.shape, b.shape)) })
	return out
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// topKeys are the names in the first document, sorted.
func topKeys(p pollAt) string {
	for _, a := range p.sequences[0].answers {
		if v, ok := parsed(a.Data); ok {
			if m, ok := v.(map[string]any); ok {
				return strings.Join(slices.Sorted(mapsKeys(m)), " ")
			}
			return "[]"
		}
	}
	return ""
}

// movingNames are the query names of which a value that was followed by another one does not come again.
func movingNames(all []*Answer) (names []string) {
	byName := map[string]map[string][]string{} // name, client and path, values
	for _, a := range all {
		for _, p := range a.Query {
			if byName[p.Name] == nil {
				byName[p.Name] = map[string][]string{}
			}
			who := a.Client + " " + a.Path
			byName[p.Name][who] = append(byName[p.Name][who], p.Value)
		}
	}
	for name, clients := range byName {
		moves := false
		for _, values := range clients {
			runs := slices.Compact(slices.Clone(values))
			if len(runs) > 1 && distinct(runs) == len(runs) && len(runs)*3 >= len(values) {
				moves = true
			} else if len(runs) > 1 {
				moves = false
				break
			}
		}
		if moves {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sequences are the polls among requests for one path.
func sequences(all []*Answer, moving []string) (out []sequence) {
	by := map[string][]*Answer{}
	var order []string
	for _, a := range all {
		key := a.Client + " " + a.Path
		for _, p := range a.Query {
			if !slices.Contains(moving, p.Name) {
				key += "&" + p.Name + "=" + p.Value
			}
		}
		if by[key] == nil {
			order = append(order, key)
		}
		by[key] = append(by[key], a)
	}
	for _, key := range order {
		answers := by[key]
		slices.SortStableFunc(answers, func(a, b *Answer) int { return a.At.Compare(b.At) })
		if every, ok := polled(answers); ok {
			out = append(out, sequence{answers, every})
		}
	}
	return out
}

// unread reports whether answers came at the rhythm of a poll, and none of them could be read.
func unread(answers []*Answer) bool {
	var gaps []time.Duration
	for i, a := range answers {
		if a.Data != nil || a.Size == 0 && a.Status == 200 {
			return false
		}
		if i > 0 {
			gaps = append(gaps, a.At.Sub(answers[i-1].At))
		}
	}
	if len(gaps) < leastAsked-1 {
		return false
	}
	middle, regular := rhythm(gaps)
	return regular && middle >= fastestPoll && middle <= slowestPoll
}

// polled reports whether answers are those of a poll, and how often it asks.
func polled(answers []*Answer) (every time.Duration, ok bool) {
	if len(answers) < leastAsked || !slices.ContainsFunc(answers, func(a *Answer) bool { return isObject(a.Data) }) {
		return 0, false
	}
	var gaps []time.Duration
	waits := 0
	for i := 1; i < len(answers); i++ {
		before := answers[i-1]
		gaps = append(gaps, answers[i].At.Sub(before.At))
		if took := before.End.Sub(before.At); took >= waitedFor && answers[i].At.Sub(before.End) < askedAgain {
			waits++
		}
	}
	middle, regular := rhythm(gaps)
	if waits*4 >= len(gaps)*3 {
		return 0, true
	}
	return middle, regular && middle >= fastestPoll && middle <= slowestPoll
}

// poll concludes a route from polls at one path.
func (c *conclusion) poll(p pollAt) {
	a := &asks{}
	pattern, names := wildcards(p.shape)
	a.names = names
	for _, s := range p.sequences {
		last := s.answers[len(s.answers)-1].Request
		last.Query = slices.DeleteFunc(slices.Clone(last.Query), func(q Pair) bool { return slices.Contains(p.moving, q.Name) })
		a.all, a.parts = append(a.all, &last), append(a.parts, values(last.Path, p.shape))
	}
	d := &draft{base: c.o.Base, host: p.host, socket: c.o.Socket, httpOnly: c.httpOnly, asked: c.probed[pattern], vault: &c.vault}
	d.Old, d.Transport = pattern, "poll"
	var every []time.Duration
	for _, s := range p.sequences {
		d.Seen += len(s.answers)
		every = append(every, s.every)
	}
	slices.Sort(every)
	d.address(a, p, pattern)
	d.credentials(a)
	d.set("EVERY", span(every[len(every)/2]))
	d.bodies(p.sequences)
	c.drafts = append(c.drafts, d)
}

// busters are query names that keep caches away.
var busters = lazily(`(?i)^(_|_t|t|ts|cb|rnd?|rand(om)?|nocache|no_cache|cache_?buster|cache|time|timestamp|_dc|dc|v|x)$`)

// address sets FROM, and CURSOR and FIRST where a value of an answer comes back in the query.
func (d *draft) address(a *asks, p pollAt, pattern string) {
	from := a.address(d.service(false), pattern, nil)
	bare := from
	cursor := ""
	for _, name := range p.moving {
		switch path, initial := findCursor(p.sequences, name); {
		case path != "" && cursor == "":
			cursor = path
			from = withQuery(from, escapeQuery(name)+"={stream.cursor"+initial+"}")
			if initial == "" {
				defer d.set("FIRST", bare)
			}
			d.note("CURSOR: the next request has %s from the answer before", name)
		case busters.MatchString(name) || isClock(p.sequences, name):
			d.note("left out of the address: %s, which keeps caches away, or is the client's clock", shownNames([]string{name}))
		case inTemplate(name):
			from = withQuery(from, escapeQuery(name)+"={query."+name+":}")
			d.note("%s differs between requests, and nothing tells where it comes from", shownNames([]string{name}))
		}
	}
	d.set("FROM", from)
	d.set("CURSOR", cursor)
}

func withQuery(address, query string) string {
	if strings.Contains(address, "?") {
		return address + "&" + query
	}
	return address + "?" + query
}

// isClock reports whether the values of name are times of their requests.
func isClock(all []sequence, name string) bool {
	n := 0
	for _, s := range all {
		for _, a := range s.answers {
			v, ok := value(a.Query, name)
			if ok && !isTime(v, a.At) {
				return false
			}
			if ok {
				n++
			}
		}
	}
	return n > 0
}

// findCursor is jq for the value of an answer that the next request has under name, and the default of the placeholder, with its colon; "" for
// none, where the first request has no such value.
func findCursor(all []sequence, name string) (path, initial string) {
	votes := map[string]int{}
	changes := 0
	for _, s := range all {
		for i := 1; i < len(s.answers); i++ {
			now, ok := value(s.answers[i].Query, name)
			before, had := value(s.answers[i-1].Query, name)
			if !ok || had && now == before || s.answers[i-1].Data == nil {
				continue
			}
			changes++
			for _, candidate := range cursorPaths(s.answers[i-1].Data, now) {
				votes[candidate]++
			}
		}
	}
	for candidate, n := range votes {
		if n == changes && (changes > 1 || len(candidate) > 1) && (path == "" || len(candidate) < len(path) || len(candidate) == len(path) && candidate < path) {
			path = candidate
		}
	}
	if path == "" {
		return "", ""
	}
	first, ok := value(all[0].answers[0].Query, name)
	if ok && initials.MatchString(first) {
		return path, ":" + first
	}
	if ok && allDigits.MatchString(first) {
		return path, ":0"
	}
	return path, ""
}

var (
	initials  = lazily(`(?i)^(0|-1|now|latest|\$|start|initial)$`)
	allDigits = lazily(`[0-9]+`)
)

// cursorPaths are jq for values in an answer that are text, or one less than it.
func cursorPaths(data []byte, text string) (paths []string) {
	leaves, ok := leavesOf(data)
	if !ok {
		return nil
	}
	last := lastIndexes(leaves)
	for _, l := range leaves {
		path, ok := endPath(l.path, last)
		if !ok || l.depth > 4 || l.text == "" {
			continue
		}
		switch {
		case l.text == text && text != "true" && text != "false" && text != "null":
			paths = append(paths, path)
		case !l.quoted && plusOne(l.text) == text:
			paths = append(paths, path+"|select(.)+1")
		}
	}
	return paths
}

func plusOne(text string) string {
	var n int64
	if _, err := fmt.Sscan(text, &n); err != nil || fmt.Sprint(n) != text {
		return ""
	}
	return fmt.Sprint(n + 1)
}

// lastIndexes are the last index of each list, by its path.
func lastIndexes(leaves []leaf) map[string]string {
	last := map[string]string{}
	for _, l := range leaves {
		for _, m := range indexes.FindAllStringIndex(l.path, -1) {
			last[l.path[:m[0]]] = l.path[m[0]:m[1]]
		}
	}
	return last
}

// endPath is path with [-1] for the last element of a list; false where it is of one in the middle.
func endPath(path string, last map[string]string) (string, bool) {
	m := indexes.FindAllStringIndex(path, -1)
	switch {
	case len(m) == 0:
		return path, true
	case len(m) > 1:
		return "", false
	}
	index := path[m[0][0]:m[0][1]]
	switch {
	case last[path[:m[0][0]]] == index:
		return path[:m[0][0]] + "[-1]" + path[m[0][1]:], true
	case index == "[0]":
		return path, true
	}
	return "", false
}
