package learn

import (
	"net/url"
	"slices"
	"strings"
)

// item is something that a client has told a service in a dialect's own terms.
type item struct {
	kind string // connect, subscribe or say
	head string // a topic, a destination, a namespace, a method; "" for none
	doc  string // JSON that goes with it; "" for none
}

const (
	connects   = "connect"
	subscribes = "subscribe"
	says       = "say"
)

// speech is what is read of one conversation in a dialect.
type speech struct {
	items []item
	notes []string
	wrong string // why no route can speak so; "" when one can
}

func (s *speech) add(kind, head, doc string) {
	it := item{kind, head, doc}
	if len(s.items) < 2*maxSteps && len(doc) <= 8<<10 && len(head) <= 1<<10 && !slices.Contains(s.items, it) {
		s.items = append(s.items, it)
	}
}

// language is how a dialect is learned.
type language struct {
	read  func(c *Conversation) speech
	write func(kind, head, doc string) string // a line of a setting; nil: head, a blank and doc
	query func(name string) bool              // what the dialect itself puts into the query; nil: nothing
	path  func(path string) string            // the address that FROM has; nil: the path
	event string                              // EVENT where there are several subscriptions; "" for none
}

// languages are the dialects but raw, by their name.
var languages = map[string]language{
	"socket.io":            {read: readSocketIO, write: writeSocketIO, query: isEngineIO},
	"socket.io-v2":         {read: readSocketIO, write: writeSocketIO, query: isEngineIO},
	"graphql-transport-ws": {read: readGraphQL, write: writeGraphQL, event: "topic"},
	"graphql-ws":           {read: readGraphQL, write: writeGraphQL, event: "topic"},
	"actioncable":          {read: readActionCable, query: func(name string) bool { return name == "sid" }, event: "topic|fromjson.channel"},
	"stomp":                {read: readSTOMP, write: writeSTOMP, event: "topic"},
	"mqtt":                 {read: readMQTT, event: "topic"},
	"phoenix":              {read: readPhoenix, query: func(name string) bool { return false }, path: withoutWebSocket},
	"signalr":              {read: readSignalR, query: func(name string) bool { return name == "id" }},
	"signalr-classic":      {read: readSignalRClassic, query: classicQuery, path: withoutConnect},
	"webpubsub":            {read: readWebPubSub, query: awpsQuery, event: "topic"},
	"wamp":                 {read: readWAMP, event: "topic"},
	"bayeux":               {read: readBayeux, event: "topic"},
	"nats":                 {read: readNATS, event: "topic"},
	"centrifuge":           {read: readCentrifuge, event: "topic"},
	"parse":                {read: readParse, event: "\"\\(event) \\(topic)\""},
	"ddp":                  {read: readDDP, event: "\"\\(event) \\(topic)\""},
	"appsync":              {read: readAppSync, write: writeAppSync, query: isAppSync, event: "topic"},
}

// shapeOf is equal for items that differ in values alone.
func (it item) shapeOf() string {
	s := newSaid(Frame{Data: []byte(it.doc)})
	head := uuid.ReplaceAllString(it.head, "{}")
	head = tokenRun.ReplaceAllStringFunc(head, func(run string) string {
		if random(run) {
			return "{}"
		}
		return run
	})
	return it.kind + " " + allDigits.ReplaceAllString(head, "0") + " " + s.shape
}

// heard is what the conversations of a route have said, item by item.
type heard struct {
	shape string
	items []item
	where []int // the conversation of each
}

// together sorts the items of all conversations by their shape, in the order in which they came.
func together(speeches []speech) (all []heard) {
	for c, s := range speeches {
		seen := map[string]int{}
		for _, it := range s.items {
			shape := it.shapeOf()
			seen[shape]++ // the second subscription to a topic of one kind is another one than the first
			key := shape + strings.Repeat("#", seen[shape])
			i := slices.IndexFunc(all, func(h heard) bool { return h.shape == key })
			if i < 0 {
				i = len(all)
				all = append(all, heard{shape: key})
			}
			all[i].items, all[i].where = append(all[i].items, it), append(all[i].where, c)
		}
	}
	return all
}

// speak concludes a route from conversations in a dialect.
func (g *group) speak(d *draft, lang language, speeches []speech) {
	var connect, subscribe, hello []string
	for _, h := range together(speeches) {
		line := g.write(h, lang)
		if !fits(line) && h.items[0].kind != connects {
			d.note("something that the client subscribes to or sends cannot be written in one line; it is left out")
			continue
		}
		switch h.items[0].kind {
		case connects:
			connect = append(connect, line)
		case subscribes:
			subscribe = append(subscribe, line)
		default:
			if len(h.where) == len(g.all) { // what only some have sent is somebody's own doing
				hello = append(hello, "> "+line)
			} else {
				d.note("clients send messages of their own: SEND=true takes them as POSTs")
			}
		}
	}
	if len(connect) > 0 && !strings.Contains(connect[0], "'") && connect[0] != "{}" {
		d.set("CONNECT", connect[0])
	}
	d.set("SUBSCRIBE", block(unique(subscribe)))
	d.set("HELLO", block(unique(hello)))
	if len(subscribe) > 1 {
		d.set("EVENT", lang.event)
	}
	for _, s := range speeches {
		for _, n := range s.notes {
			d.note("%s", n)
		}
	}
	for _, name := range g.given {
		d.note("%s is secret or differs, and nothing tells where it comes from: the page gives it as ?%s=, or replace it (CONNECT_FILE and SUBSCRIBE_FILE keep it out of this file)", name, name)
	}
}

func unique(lines []string) (out []string) {
	for _, line := range lines {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// write is the line for an item.
func (g *group) write(h heard, lang language) string {
	var heads, docs []string
	for _, it := range h.items {
		heads, docs = append(heads, it.head), append(docs, it.doc)
	}
	head, doc := "", ""
	if heads[0] != "" {
		head = g.head(heads)
	}
	if docs[0] != "" {
		doc = g.template(docs)
	}
	if lang.write != nil {
		return lang.write(h.items[0].kind, head, doc)
	}
	return strings.TrimSpace(head + " " + doc)
}

// block is a setting of several lines, or of one.
func block(lines []string) string {
	if len(lines) == 1 {
		return lines[0]
	}
	return lineBlock(lines)
}

func lineBlock(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// fits reports whether a text may be a line of a setting.
func fits(line string) bool {
	return line != "" && len(line) <= 8<<10 && !newlines.MatchString(line) && !strings.Contains(line, "'") && line == strings.TrimSpace(line)
}

// template writes JSON in which what is secret, or differs between conversations, is a placeholder. docs are the same message of each.
func (g *group) template(docs []string) string {
	first := []byte(docs[0])
	if !isObject(first) {
		return docs[0]
	}
	leaves, ok := leavesOf(first)
	if !ok {
		return ""
	}
	all := make([][]leaf, len(docs))
	for i, doc := range docs {
		all[i], _ = leavesOf([]byte(doc))
	}
	texts := map[int]string{}
	for i, l := range leaves {
		var values []string
		for _, other := range all {
			if i < len(other) && other[i].path == l.path {
				values = append(values, other[i].text)
			}
		}
		whole := len(values) == len(docs) && l.quoted && slices.ContainsFunc(values, func(v string) bool { return g.private(l.key, v) })
		if whole {
			if text := g.partly(l.key, values); text != "" {
				texts[i] = quote(text)
				continue
			}
		}
		switch text := g.filled(l.key, values); {
		case text != "" && l.quoted:
			texts[i] = `"` + text + `"`
		case text != "":
			texts[i] = text
		case l.quoted && strings.Contains(l.text, "'"):
			texts[i] = quote(l.text)
		}
	}
	return string(compact([]byte(replace(first, leaves, texts))))
}

// filled is the placeholder for values of one place; "" when they are written as they are.
func (g *group) filled(key string, values []string) string {
	private := slices.ContainsFunc(values, func(v string) bool { return g.private(key, v) })
	if len(values) != len(g.all) { // not all conversations have it
		if private {
			return g.give(key)
		}
		return ""
	}
	if distinct(values) > 1 || private {
		return g.from(key, values)
	}
	if p := g.source(values); strings.HasPrefix(p, "{path.") {
		return p
	}
	return ""
}

// head is a topic's name, in which what differs or is secret is a placeholder.
func (g *group) head(texts []string) string {
	if distinct(texts) == 1 {
		return g.topic(texts[0])
	}
	if len(texts) != len(g.all) {
		return g.topic(texts[0])
	}
	before, after := ends(texts)
	var middles []string
	for _, text := range texts {
		middles = append(middles, text[len(before):len(text)-len(after)])
	}
	if random(before+after) || g.vault.in(before) || g.vault.in(after) {
		return g.from("topic", texts)
	}
	return before + g.from("topic", middles) + after
}

// separators end a word in a topic.
const separators = "/.:-_ ?=&"

// ends is what texts begin and end with, up to a separator.
func ends(texts []string) (before, after string) {
	before, after = texts[0], texts[0]
	for _, t := range texts[1:] {
		n := 0
		for n < min(len(before), len(t)) && before[n] == t[n] {
			n++
		}
		before = before[:n]
	}
	before = before[:strings.LastIndexAny(before, separators)+1]
	after = after[len(before):]
	for _, t := range texts {
		t = t[len(before):]
		n := 0
		for n < min(len(after), len(t)) && after[len(after)-1-n] == t[len(t)-1-n] {
			n++
		}
		after = after[len(after)-n:]
	}
	if i := strings.IndexAny(after, separators); i >= 0 {
		return before, after[i:]
	}
	return before, ""
}

// topic is a name that was the same everywhere.
func (g *group) topic(name string) string {
	for i, wildcard := range g.names {
		part := g.parts[0][i]
		words := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(separators, r) })
		if slices.Contains(words, part) && g.equalParts(i, part) {
			return strings.Replace(name, part, "{path."+wildcard+"}", 1)
		}
	}
	name = queryPart.ReplaceAllStringFunc(name, func(part string) string {
		key, text, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(text); err == nil && (secret(key[1:], plain) || g.vault.in(plain)) {
			return key + "=" + g.give(key[1:])
		}
		return part
	})
	hidden := tokenRun.ReplaceAllStringFunc(uuid.ReplaceAllStringFunc(name, g.hidden), g.hidden)
	if g.vault.in(hidden) || random(strings.ReplaceAll(hidden, "{query.topic}", "")) {
		return g.give("topic")
	}
	return hidden
}

// queryPart is a value in a query that stands in a name.
var queryPart = lazily(`[?&][^=&]+=[^&]+`)

// equalParts reports whether all requests have part as the path's wildcard i.
func (g *group) equalParts(i int, part string) bool {
	return !slices.ContainsFunc(g.parts, func(p []string) bool { return p[i] != part })
}

// hidden is the placeholder for what is random in a name.
func (g *group) hidden(run string) string {
	if random(run) || g.vault.in(run) {
		return g.give("topic")
	}
	return run
}
