// This file is how far clients have moved: who is on which path over what, what an old path waits for until it is safe to switch off, and
// what old clients are told of its end.

package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy/migrate"
)

// MigrationReport is how far clients have moved.
type MigrationReport struct {
	Since   time.Time       `json:"since"`   // who was there before is not known
	Kept    bool            `json:"kept"`    // over restarts, in SSE_HISTORY
	Days    int             `json:"days"`    // without an old client until a path is safe to switch off
	Partial bool            `json:"partial"` // there are more paths than are told apart: none is safe while old clients are on those beyond, and for the days after
	Paths   []MigrationPath `json:"paths"`   // those that routes replace first, then those with most old clients
}

// MigrationPath is one path, over whatever transport.
type MigrationPath struct {
	Path    string                      `json:"path"`
	Routes  []MigrationRoute            `json:"routes"` // that replace it, or are at it
	Clients map[migrate.Transport]int   `json:"clients"`
	Total   map[migrate.Transport]int64 `json:"total"` // since the process began
	Old     int                         `json:"old"`   // clients over WebSockets and polls
	New     int                         `json:"new"`   // clients over events, those of its routes included
	Last    *migrate.Seen               `json:"last_old_client"`
	Seen    []migrate.Seen              `json:"seen"` // old clients by page and browser, the newest first
	// State is "in use", "waiting" (for days without an old client to pass), "safe", or "" for a path that no old client was seen on and no
	// route replaces.
	State  string     `json:"state"`
	SafeAt *time.Time `json:"safe_at"` // with waiting and safe
	Sunset *time.Time `json:"sunset"`  // SSE_SUNSET

	doubt time.Time // when somebody was seen last who may have been an old client of this path; zero: nobody was
}

// MigrationRoute is a route, as a path has it.
type MigrationRoute struct {
	Name   string           `json:"name"`
	Path   string           `json:"path"`
	Parity map[string]int64 `json:"parity,omitempty"` // messages of old clients by result, since the process began; without PARITY absent
}

// States of a path.
const (
	InUse   = "in use"
	Waiting = "waiting"
	Safe    = "safe"
)

// seenMost is how many pages and browsers of one path are listed.
const seenMost = 10

// polls tells the ledger of GETs that pass through. It is a migrate.Listener.
type polls struct{ *Proxy }

// Upgraded wants nothing of what is said: connections are counted elsewhere.
func (polls) Upgraded(*http.Request, http.Header) migrate.Hearer { return nil }

// Answered counts r where it may be a poll, and where it asked for a WebSocket in vain.
func (p polls) Answered(r *http.Request, status int, answer http.Header) func(migrate.Body) {
	t := p.table()
	path, dest := t.replaced(r.URL.Path), r.Header.Get("Sec-Fetch-Dest")
	known := path != ""
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		if known {
			p.migration.Ledger.Refused(path, r)
		}
		return nil
	case known && status != http.StatusNotFound && dest != "document": // a page may be where its WebSocket is; a script may be JSONP
	case !known && (dest == "" || dest == "empty") && (status == http.StatusNotModified || status == http.StatusOK && isData(answer.Get("Content-Type"))):
		path = migrate.Shape(r.URL.Path)
	default:
		return nil
	}
	p.migration.Ledger.Asked(path, known, t.addresses.of(r).String(), r)
	return nil
}

// isData reports whether a Content-Type is what programs read.
func isData(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return strings.HasSuffix(media, "json") || strings.HasSuffix(media, "xml") || strings.HasSuffix(media, "protobuf") || media == "application/octet-stream" || media == "text/plain"
}

// replaced is the pattern of those that routes replace, or that end, which path is one of; "" none.
func (t *table) replaced(path string) string {
	for _, rt := range t.routes {
		for _, pattern := range rt.Replaces {
			if pattern.Match(path) {
				return string(pattern)
			}
		}
	}
	for _, s := range t.settings.Sunsets {
		if s.Path.Match(path) {
			return string(s.Path)
		}
	}
	return ""
}

// known is what the ledger calls a path, or what it has called one before, as far as the settings of now know it; "" they do not.
func (t *table) known(path string, over migrate.Transport) string {
	if over != migrate.SSE {
		return t.replaced(path)
	}
	if slices.ContainsFunc(t.routes, func(rt *Route) bool { return rt.Path == path }) {
		return path
	}
	return ""
}

// shape is what the ledger calls path.
func (t *table) shape(path string) string {
	if pattern := t.replaced(path); pattern != "" {
		return pattern
	}
	return migrate.Shape(path)
}

// replacing are the routes that replace path, or are at it.
func (t *table) replacing(path string, at *Route) (all []*Route) {
	if at != nil {
		all = []*Route{at}
	}
	for _, rt := range t.routes {
		if rt != at && slices.ContainsFunc(rt.Replaces, func(p migrate.Pattern) bool { return p.Match(path) }) {
			all = append(all, rt)
		}
	}
	return all
}

// upgraded counts a WebSocket that is passed through, for its path and for the routes that are at it or replace it.
func (p *Proxy) upgraded(r *http.Request) (done func()) {
	t := p.table()
	left := p.migration.Ledger.Connected(t.shape(r.URL.Path), migrate.WebSocket, r)
	routes := t.replacing(r.URL.Path, t.route(r))
	for _, rt := range routes {
		rt.WebSockets.Add(1)
	}
	return func() {
		left()
		for _, rt := range routes {
			rt.WebSockets.Add(-1)
		}
	}
}

// tunnelOpened counts a WebSocket that a page has over a tunnel.
func (p *Proxy) tunnelOpened(in *http.Request, target string) (closed func()) {
	path, _, _ := strings.Cut(target, "?")
	return p.migration.Ledger.Connected(p.table().shape(path), migrate.Tunnel, in)
}

// KeepMigration keeps what is known of old clients in SSE_HISTORY, if there is one, until ctx is done.
func (p *Proxy) KeepMigration(ctx context.Context) { p.migration.Run(ctx, p.log) }

// presence lets the ledger know how many clients routes have over events.
func (p *Proxy) presence() {
	clients := map[string]int{}
	for _, rt := range p.Routes() {
		clients[rt.Path] += int(rt.Clients.Clients.Load())
	}
	p.migration.Ledger.Present(clients)
}

// MigrationCounts are the clients by path and transport.
func (p *Proxy) MigrationCounts() []migrate.Count {
	p.presence()
	return p.migration.Ledger.Counts()
}

// Migration is how far clients have moved, as of now.
func (p *Proxy) Migration() MigrationReport {
	t := p.table()
	report := MigrationReport{Since: p.migration.Since(), Kept: p.migration.Store != nil, Days: t.settings.MigrationDays, Paths: []MigrationPath{}}
	byPath := t.migrationPaths()
	for _, c := range p.MigrationCounts() {
		m := byPath[c.Path]
		if m == nil {
			m = newMigrationPath(c.Path)
			byPath[c.Path] = m
		}
		m.count(c)
		report.Partial = report.Partial || c.Path == migrate.Other
	}
	last := map[string]time.Time{}
	for _, s := range p.migration.Ledger.Seen() {
		if m := byPath[s.Path]; m != nil && s.Transport.Old() {
			m.see(s)
			if s.At.After(last[s.Path]) {
				last[s.Path] = s.At
			}
		}
	}
	t.doubt(byPath, last)
	since, now := report.Since, time.Now()
	if at := beyond(byPath[migrate.Other], now); at.After(since) {
		since = at
	}
	for _, m := range byPath {
		for _, r := range m.Routes {
			if r.Path != m.Path { // whose clients are counted already
				m.New += int(t.named(r.Name).Clients.Clients.Load())
			}
		}
		m.judge(since, report.Days, now)
		report.Paths = append(report.Paths, *m)
	}
	slices.SortFunc(report.Paths, func(a, b MigrationPath) int {
		return cmp.Or(cmp.Compare(len(b.Routes), len(a.Routes)), cmp.Compare(b.Old, a.Old), cmp.Compare(a.Path, b.Path))
	})
	return report
}

// migrationPaths are the paths that are known before anybody has used them.
func (t *table) migrationPaths() map[string]*MigrationPath {
	all := map[string]*MigrationPath{}
	at := func(path string) *MigrationPath {
		if all[path] == nil {
			all[path] = newMigrationPath(path)
		}
		return all[path]
	}
	for _, rt := range t.routes {
		paths := []string{rt.Path}
		for _, pattern := range rt.Replaces {
			paths = append(paths, string(pattern))
		}
		slices.Sort(paths)
		for _, path := range slices.Compact(paths) {
			m := at(path)
			one := MigrationRoute{Name: rt.Name, Path: rt.Path}
			if rt.Parity && slices.Contains(rt.Replaces, migrate.Pattern(path)) {
				one.Parity = rt.Compared.Counts()
			}
			m.Routes = append(m.Routes, one)
			if slices.Contains(rt.Replaces, migrate.Pattern(path)) {
				m.State = Waiting
			}
		}
	}
	for _, s := range t.settings.Sunsets {
		m := at(string(s.Path))
		m.Sunset, m.State = &s.At, Waiting
	}
	return all
}

// doubt tells old paths of those who were counted elsewhere before the settings of now, and may have been theirs: who was seen at /rooms/{id}
// may have been at /rooms/7. last is when old clients were seen, by what they are counted under.
func (t *table) doubt(byPath map[string]*MigrationPath, last map[string]time.Time) {
	for path, at := range last {
		if !strings.Contains(path, "{") {
			continue
		}
		if at.After(t.made) {
			at = t.made // from then on theirs were counted there
		}
		for _, m := range byPath {
			if m.Path != path && m.State != "" && at.After(m.doubt) && migrate.Pattern(m.Path).May(path) {
				m.doubt = at
			}
		}
	}
}

func newMigrationPath(path string) *MigrationPath {
	return &MigrationPath{Path: path, Routes: []MigrationRoute{}, Clients: map[migrate.Transport]int{}, Total: map[migrate.Transport]int64{}, Seen: []migrate.Seen{}}
}

func (m *MigrationPath) count(c migrate.Count) {
	m.Clients[c.Transport], m.Total[c.Transport] = c.Clients, c.Total
	if c.Transport.Old() {
		m.Old += c.Clients
	} else {
		m.New += c.Clients
	}
}

// see is called with the newest first.
func (m *MigrationPath) see(s migrate.Seen) {
	if m.Last == nil {
		m.Last = &s
	}
	if len(m.Seen) < seenMost {
		m.Seen = append(m.Seen, s)
	}
}

// beyond is when an old client was last on a path that is not told apart, which may be any; zero: none was.
func beyond(other *MigrationPath, now time.Time) (at time.Time) {
	switch {
	case other == nil:
	case other.Old > 0:
		at = now
	case other.Last != nil:
		at = other.Last.At
	}
	return at
}

// judge finds out the path's state.
func (m *MigrationPath) judge(since time.Time, days int, now time.Time) {
	if m.Last == nil && m.State == "" {
		return
	}
	last := since
	if m.Last != nil && m.Last.At.After(since) {
		last = m.Last.At
	}
	if m.doubt.After(last) {
		last = m.doubt
	}
	at := last.Add(time.Duration(days) * 24 * time.Hour)
	switch {
	case m.Old > 0:
		m.State = InUse
		return
	case now.Before(at):
		m.State = Waiting
	default:
		m.State = Safe
	}
	m.SafeAt = &at
}

// sunset is that of a GET's path, with the route that takes its place; nil: there is none.
func (t *table) sunset(r *http.Request) *Sunset {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil // which sends something: that is no old feed
	}
	for i := range t.settings.Sunsets {
		if s := &t.settings.Sunsets[i]; s.Path.Match(r.URL.Path) {
			return s
		}
	}
	return nil
}

// gone answers an old client of a path whose day has come, and reports whether it has.
func (p *Proxy) gone(w http.ResponseWriter, r *http.Request) bool {
	t := p.table()
	s := t.sunset(r)
	if s == nil || time.Now().Before(s.At) {
		return false
	}
	p.migration.Ledger.Refused(t.shape(r.URL.Path), r)
	t.announce(r, w.Header())
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "this address is gone since "+s.At.UTC().Format(time.DateOnly)+"; "+t.instead(r.URL.Path), http.StatusGone)
	return true
}

// instead says where the events of an old path are.
func (t *table) instead(path string) string {
	var paths []string
	for _, rt := range t.replacing(path, nil) {
		paths = append(paths, rt.Path)
	}
	if len(paths) == 0 {
		return "nothing takes its place here"
	}
	return "its events are Server-Sent Events at " + strings.Join(paths, " and ")
}

// announce tells an old client of its path's end: Deprecation (RFC 9745), Sunset (RFC 8594), and what takes its place (RFC 5829).
func (t *table) announce(r *http.Request, h http.Header) {
	s := t.sunset(r)
	if s == nil {
		return
	}
	h.Set("Deprecation", "@"+strconv.FormatInt(min(t.made.Unix(), s.At.Unix()), 10))
	h.Set("Sunset", s.At.UTC().Format(http.TimeFormat))
	for _, rt := range t.replacing(r.URL.Path, nil) {
		if !strings.Contains(rt.Path, "{") {
			h.Add("Link", fmt.Sprintf(`<%s>; rel="successor-version"`, rt.Path))
		}
	}
}
