package learn

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// sent is the line of HELLO for step n; false when it cannot be written.
func (g *group) sent(d *draft, n int) (line string, ok bool) {
	var frames []*said
	for _, t := range g.talks {
		frames = append(frames, &t.all[t.open[n]])
	}
	first := frames[0]
	if first.Binary || first.Cut || !utf8.Valid(first.Data) {
		return "", false
	}
	if !first.json {
		return g.sentText(frames)
	}
	texts := map[int]string{}
	for i, l := range first.leaves {
		if text, ok := g.stands(d, frames, n, i, l); ok {
			texts[i] = text
		}
	}
	text, ok := g.line(string(compact([]byte(replace(first.Data, first.leaves, texts)))), "> ")
	return text, ok
}

// stands is what is written in the place of leaf i of step n; false: what stands there.
func (g *group) stands(d *draft, frames []*said, n, i int, l leaf) (text string, ok bool) {
	var values []string
	for _, f := range frames {
		if i >= len(f.leaves) || f.leaves[i].path != l.path {
			return "", false
		}
		values = append(values, f.leaves[i].text)
	}
	var p string
	private := slices.ContainsFunc(values, func(v string) bool { return g.private(l.key, v) })
	switch {
	case !l.quoted && l.depth == 1 && g.counted(l.key):
		p = "{stream.n}"
	case distinct(values) == 1 && !private && !(len(values) == 1 && g.source(values) != "" && strings.HasPrefix(g.source(values), "{path.")):
		return "", false
	case g.captured(n, values) != "":
		p = g.captured(n, values)
	case g.source(values) != "":
		p = g.source(values)
	case private && l.quoted && g.within(values) != "":
		return g.within(values), true
	case private && l.quoted && g.partly(l.key, values) != "":
		return quote(g.partly(l.key, values)), true
	case idKeys.MatchString(l.key) && !named(l.key) || !private && counts(values, frames):
		p = "{stream.n}"
	default:
		p = g.give(l.key)
		d.note("%s in what the client sends differs or is secret, and nothing tells where it comes from: the page gives it, or replace it (HELLO_FILE keeps it out of this file)", shownNames([]string{l.key}))
	}
	if l.quoted {
		return `"` + p + `"`, true
	}
	return p, true
}

// counted reports whether clients count their messages under a name: it has numbers that grow in their opening, or in the opening and in pings. A service
// that wants them to grow gets the next one each time.
func (g *group) counted(key string) bool {
	if !idKeys.MatchString(key) {
		return false
	}
	t, last, n := g.talks[0], 0, 0
	for i := range t.all {
		s := &t.all[i]
		l, ok := s.get(field(key))
		if !s.FromClient || !ok || !slices.Contains(t.open, i) && !slices.ContainsFunc(g.pings, func(h habit) bool { return h.shape == s.shape }) {
			continue
		}
		number, err := strconv.Atoi(l.text)
		if l.quoted || err != nil || number <= last {
			return false
		}
		last, n = number, n+1
	}
	return n > 1
}

// counts reports whether values are times or numbers, which differ for no reason that matters.
func counts(values []string, frames []*said) bool {
	for i, v := range values {
		if _, err := strconv.ParseFloat(v, 64); err != nil && !isTime(v, frames[i].At) {
			return false
		}
	}
	return true
}

// isTime reports whether v is a time near at.
func isTime(v string, at time.Time) bool {
	if t, err := time.Parse(time.RFC3339, v); err == nil {
		return t.Sub(at).Abs() < 48*time.Hour
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return false
	}
	for _, unit := range []float64{1, 1e3, 1e6, 1e9} {
		if d := n/unit - float64(at.Unix()); d > -172800 && d < 172800 {
			return true
		}
	}
	return false
}

// within is the text of values in which something that is known, such as a cookie, is a part, as JSON.
func (g *group) within(values []string) string {
	for _, q := range g.all[0].Cookies {
		if text := g.part(values, "cookie", q, func(r *Request) []Pair { return r.Cookies }); text != "" {
			return text
		}
	}
	for _, q := range g.all[0].Query {
		if text := g.part(values, "query", q, func(r *Request) []Pair { return r.Query }); text != "" {
			return text
		}
	}
	return ""
}

func (g *group) part(values []string, kind string, p Pair, of func(*Request) []Pair) string {
	if len(p.Value) < minSecret || !inTemplate(p.Name) {
		return ""
	}
	var out string
	for i, v := range values {
		known, _ := value(of(g.all[i]), p.Name)
		if known == "" || !strings.Contains(v, known) {
			return ""
		}
		text := strings.ReplaceAll(v, known, "\x00")
		if out != "" && out != text || random(text) || g.vault.in(text) {
			return ""
		}
		out = text
	}
	return strings.ReplaceAll(quote(out), `\u0000`, "{"+kind+"."+p.Name+"}")
}

// captured is the placeholder of what the service has said before step n, in each conversation; "" when it has not.
func (g *group) captured(n int, values []string) string {
	if slices.Contains(values, "") || len(values[0]) < leastEqual {
		return ""
	}
	lead := g.talks[0]
	for i := lead.open[n] - 1; i >= 0; i-- {
		s := &lead.all[i]
		if s.FromClient {
			continue
		}
		for _, l := range s.leaves {
			if l.text != values[0] || strings.Contains(l.path, "[") || isKind(l) || !g.saidEverywhere(s.shape, l.path, n, values) {
				continue
			}
			condition := g.tells(s.shape)
			name := lettersOrUnderscores(l.key)
			if condition == "" || name == "" {
				continue
			}
			return g.remember(name, "select("+condition+")|{"+name+":"+l.path+"}")
		}
	}
	return ""
}

// remember adds a program to STATE, and returns the placeholder of what it captures.
func (g *group) remember(name, program string) string {
	if g.stateNames == nil {
		g.stateNames = map[string]string{}
	}
	if g.stateNames[name] == "" {
		g.stateNames[name] = program
		g.state = append(g.state, "("+program+")")
	}
	return "{state." + name + "}"
}

// saidEverywhere reports whether each conversation has had its value at path in a message of this shape before step n.
func (g *group) saidEverywhere(shape, path string, n int, values []string) bool {
	for c, t := range g.talks {
		found := false
		for i := 0; i < t.open[n] && !found; i++ {
			if s := &t.all[i]; !s.FromClient && s.shape == shape {
				l, ok := s.get(path)
				found = ok && l.text == values[c]
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// needs is the condition of the message that step n takes a value from; "" for none.
func (g *group) needs(n int) string {
	lead := g.talks[0]
	for _, l := range lead.all[lead.open[n]].leaves {
		for i := lead.open[n] - 1; i >= 0; i-- {
			s := &lead.all[i]
			if s.FromClient {
				continue
			}
			for _, from := range s.leaves {
				program := g.stateNames[lettersOrUnderscores(from.key)]
				if program != "" && from.text == l.text && strings.HasSuffix(program, ":"+from.path+"}") {
					return g.tells(s.shape)
				}
			}
		}
	}
	return ""
}

// sentText is the line for messages that are not JSON.
func (g *group) sentText(frames []*said) (string, bool) {
	var values []string
	for _, f := range frames {
		values = append(values, string(f.Data))
	}
	text := values[0]
	private := slices.ContainsFunc(values, func(v string) bool { return g.private("", v) || named(v) })
	if distinct(values) == 1 && !private {
		return g.line(text, "> ")
	}
	if p := g.source(values); p != "" {
		return "> " + p, true
	}
	if text = g.within(values); text != "" {
		plain, _ := strconv.Unquote(text)
		return g.line(plain, "> ")
	}
	return g.words(values)
}

// words is the line for texts of words, of which some differ or are secret.
func (g *group) words(values []string) (string, bool) {
	var all [][]string
	for _, v := range values {
		all = append(all, strings.Fields(v))
	}
	out := slices.Clone(all[0])
	for i := range out {
		var column []string
		for _, w := range all {
			if len(w) != len(out) {
				return "", false
			}
			column = append(column, w[i])
		}
		name := "value"
		if i > 0 {
			name = all[0][i-1]
		}
		if distinct(column) > 1 || secret(name, column[0]) && i > 0 || random(column[0]) || g.vault.in(column[0]) {
			out[i] = g.from(name, column)
		}
	}
	return g.line(strings.Join(out, " "), "> ")
}

// ours is what would be taken for a placeholder though the client has sent it so.
var ours = lazily(`\{(?:(?:path|query|header|cookie|auth|state|stream)\.[^{}:"\s]+|query)(?::[^{}]*)?\}`)

// line is a line of HELLO that sends text, or the value of PING where mark is ""; false when it cannot be written.
func (g *group) line(text, mark string) (string, bool) {
	if strings.Contains(text, "{=") || strings.Contains(text, "{secret.") { // which none of our own texts does
		return "= " + quote(text), mark != "" && len(text) <= 4<<10 && utf8.ValidString(text)
	}
	if text == "" || len(text) > 4<<10 || !utf8.ValidString(text) || newlines.MatchString(text) || text != strings.TrimSpace(text) {
		if mark == "" || text == "" || len(text) > 4<<10 || !utf8.ValidString(text) {
			return "", false
		}
		return "= " + quote(text), true
	}
	if strings.Contains(text, "'") {
		if !isObject([]byte(text)) {
			return "", false
		}
		text = strings.ReplaceAll(text, "'", `\u0027`)
	}
	return mark + text, true
}

// private reports whether a value must not be shown: it looks secret, or has a part that is known to be.
func (g *group) private(key, value string) bool { return secret(key, value) || g.vault.in(value) }

// partly is a text of several words, the same in all conversations, in which placeholders stand for what is secret; "" where it is no such text.
func (g *group) partly(key string, values []string) string {
	text := values[0]
	if distinct(values) > 1 || named(key) || !strings.ContainsAny(text, " (:") {
		return ""
	}
	for _, secret := range slices.Sorted(mapsKeys(g.vault.values)) {
		if strings.Contains(text, secret) {
			known := make([]string, len(values))
			for i := range known {
				known[i] = secret
			}
			text = strings.ReplaceAll(text, secret, g.from("token", known))
		}
	}
	text = tokenRun.ReplaceAllStringFunc(uuid.ReplaceAllString(text, g.placeholderIn(text, uuid)), func(run string) string {
		if random(run) {
			return g.give("token")
		}
		return run
	})
	if bare := ours.ReplaceAllString(text, ""); random(bare) || g.vault.in(bare) {
		return ""
	}
	return text
}

// placeholderIn is a placeholder for what of text matches; "" when nothing does.
func (g *group) placeholderIn(text string, what pattern) string {
	if what.MatchString(text) {
		return g.give("token")
	}
	return ""
}
