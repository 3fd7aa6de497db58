// This file keeps up with settings that stand in files (HEADERS_FILE, CONNECT_FILE, ...), which hold credentials that are rotated. The
// rules:
//
//   - They are looked at before each dial and each request, at most once a second, and what has changed counts from there on, for
//     streams that are open too.
//   - Only the text between placeholders may change. What a route asks of its clients, how many headers or lines there are, and programs
//     stay as they were when the route was made: another shape takes a reload, which makes another route.
//   - A stream's identity knows such a text by its place. It is the sidecar's own and the same for all clients, so that a rotation does
//     not part new clients from those already connected.

package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/outbound"
	"sidestream/translate/dialect"
)

// lookAgain is how long files are taken for unchanged without looking.
const lookAgain = time.Second

// files are the literals of a route whose settings stand in files. The zero value has none.
type files struct {
	mu     sync.Mutex
	looked time.Time
	said   string // the last problem, so that it is said once

	texts atomic.Pointer[[][]string] // by template and part
}

// enliven makes the literals of the route's templates those of its files. Called once, before the route is used.
func (rt *Route) enliven() {
	if rt.settings.Reread == nil {
		return
	}
	rt.files.looked = time.Now()
	texts := rt.literals()
	rt.files.texts.Store(&texts)
	for k, e := range rt.table {
		for j := range e.template.parts {
			if p := &e.template.parts[j]; p.kind == "" {
				p.place, p.live = fmt.Sprintf("%d.%d", k, j), func() string { return (*rt.files.texts.Load())[k][j] }
			}
		}
	}
}

// literals are the texts of all parts of all templates, "" for placeholders.
func (rt *Route) literals() (all [][]string) {
	for _, e := range rt.table {
		var texts []string
		for _, p := range e.template.parts {
			texts = append(texts, p.literal)
		}
		all = append(all, texts)
	}
	return all
}

var errShape = errors.New("more has changed than the text between placeholders, which takes a reload of the configuration")

// reread looks whether the files have changed.
func (rt *Route) reread(log *slog.Logger) {
	if rt.settings.Reread == nil {
		return
	}
	f := &rt.files
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < lookAgain {
		return
	}
	f.looked = time.Now()
	changed, err := rt.settings.Reread()
	var next *Route
	if err == nil && changed != nil {
		if next, err = Compile(*changed); err == nil && !rt.Becomes(next) {
			err = errShape
		}
	}
	switch {
	case err != nil:
		if f.said != err.Error() {
			log.Warn("files of settings cannot be reread; their previous values stay in use", "err", err)
		}
		f.said = err.Error()
	case next != nil:
		f.said = ""
		texts := next.literals()
		if slices.EqualFunc(texts, *f.texts.Load(), slices.Equal[[]string]) {
			return // what has changed is no template
		}
		f.texts.Store(&texts)
		log.Info("files of settings have changed; the new values are in use")
	}
}

// Succeed has rt continue the totals of old, whose place it takes. It is called before rt is used.
func (rt *Route) Succeed(old *Route) { rt.Stats = old.Stats }

// Becomes reports whether rt comes to be what next is by looking at its files: they differ in the literals of templates alone.
func (rt *Route) Becomes(next *Route) bool {
	return rt.like(next) && rt.ticketMethod == next.ticketMethod && reflect.DeepEqual(rt.settings.fixed(), next.settings.fixed()) &&
		slices.Equal(fixedLines(rt.settings.Hello), fixedLines(next.settings.Hello))
}

// fixed is s without the templates, whose literals may change, and without what says where s comes from.
func (s SourceSettings) fixed() SourceSettings {
	s.From, s.First, s.Headers, s.Body, s.Connect, s.Subscribe, s.Ticket, s.Ping, s.Hello = "", "", "", "", "", "", "", "", ""
	s.FromFile, s.Reread, s.Secrets = false, nil, nil // secrets are the same for all, and may change at any time
	s.Network = outbound.Settings{}                   // its files are followed too, and like compares the socket
	return s
}

// fixedLines are the lines of HELLO that are no templates.
func fixedLines(hello string) (fixed []string) {
	marks, lines := dialect.SplitHello(hello)
	for i, mark := range marks {
		switch mark {
		case '>':
		case '@': // a template, but for its method or its header's name
			first, _ := cutWord(lines[i])
			fixed = append(fixed, "@"+strings.SplitN(first, "://", 2)[0])
		default:
			fixed = append(fixed, string(mark)+lines[i])
		}
	}
	return fixed
}

// like reports whether the templates of next differ in literals alone.
func (rt *Route) like(next *Route) bool {
	same := func(p, q part) bool {
		return p.kind == q.kind && p.name == q.name && p.fallbackText() == q.fallbackText()
	}
	return rt.Polls() == next.Polls() && rt.Redis() == next.Redis() && rt.RedisStreams() == next.RedisStreams() && rt.settings.Network.Socket == next.settings.Network.Socket && slices.EqualFunc(rt.table, next.table, func(a, b *entry) bool {
		return a.setting == b.setting && a.header == b.header && slices.EqualFunc(a.template.parts, b.template.parts, same)
	})
}
