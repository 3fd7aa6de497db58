// This file is what the dashboard asks for: single streams, clients and events.

package admin

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
)

// Bounds on what is listed.
const (
	listMost    = 500
	listUsual   = 100
	newestMost  = 20
	newestSize  = 16 << 10
	searchMost  = 256 // bytes of what is searched for
	addressMost = 20
	censusMost  = 200_000
)

// StreamShown is one stream. It holds no secret.
type StreamShown struct {
	Route    string            `json:"route"`
	Upstream string            `json:"upstream"` // its address, without what may be a secret
	Path     map[string]string `json:"path"`     // what the client's path has named
	Epoch    string            `json:"epoch"`
	State    string            `json:"state"` // retrying, connecting, releasing, connected, following or finished
	Clients  int               `json:"clients"`
	Opened   time.Time         `json:"opened"`
	Error    string            `json:"error,omitempty"`
	ErrorAt  *time.Time        `json:"error_at,omitempty"`
	Fix      string            `json:"fix,omitempty"`
	Events   uint64            `json:"events"` // number of the newest
	Newest   *time.Time        `json:"newest,omitempty"`
	Kept     int               `json:"kept"`
	Bytes    int               `json:"bytes"`
}

// serveStreams lists streams: of ?route, whose address or path values contain ?q, at most ?limit, those in trouble first, then those with most
// clients.
func (a *Port) serveStreams(w http.ResponseWriter, r *http.Request) {
	q, ok := a.query(w, r)
	if !ok {
		return
	}
	clients := a.Proxy.Count(r.Context())
	type found struct {
		route string
		stream.Info
	}
	var all []found
	for _, rt := range q.routes {
		for _, i := range rt.Streams.List(q.fits) {
			all = append(all, found{rt.Name, i})
		}
	}
	slices.SortFunc(all, func(x, y found) int {
		return cmp.Or(cmp.Compare(stream.Concern(x.State), stream.Concern(y.State)), cmp.Compare(clients[y.Ring], clients[x.Ring]),
			cmp.Compare(x.route, y.route), cmp.Compare(x.Upstream, y.Upstream), x.Opened.Compare(y.Opened))
	})
	list := []StreamShown{}
	for _, f := range all[:min(len(all), q.limit)] {
		list = append(list, shownStream(f.route, f.Info, clients[f.Ring]))
	}
	answerJSON(w, http.StatusOK, map[string]any{"streams": list, "total": len(all)})
}

func shownStream(route string, i stream.Info, clients int) StreamShown {
	c := i.Ring.Contents()
	s := StreamShown{Route: route, Upstream: i.Upstream, Path: map[string]string{}, Epoch: c.Epoch.String(), State: i.State, Clients: clients,
		Opened: i.Opened, Error: i.Error, Fix: fix(i.Error), Events: c.Events, Kept: c.Kept, Bytes: c.Bytes}
	for _, one := range i.Path {
		s.Path[one.Name] = one.Value
	}
	if i.Error != "" {
		s.ErrorAt = &i.ErrorAt
	}
	if !c.Newest.IsZero() {
		s.Newest = &c.Newest
	}
	return s
}

// asked is what a list is asked for.
type asked struct {
	routes []*proxy.Route
	search string // lower case
	limit  int
}

// query reads what r asks for, or answers it.
func (a *Port) query(w http.ResponseWriter, r *http.Request) (q asked, ok bool) {
	form := r.URL.Query()
	q.limit = listUsual
	if text := form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > listMost {
			http.Error(w, "limit is a number from 1 to "+strconv.Itoa(listMost), http.StatusBadRequest)
			return q, false
		}
		q.limit = n
	}
	if q.search = strings.ToLower(strings.TrimSpace(form.Get("q"))); len(q.search) > searchMost {
		http.Error(w, "q is too long", http.StatusBadRequest)
		return q, false
	}
	name := form.Get("route")
	for _, rt := range a.Proxy.Served() {
		if name == "" || rt.Name == name {
			q.routes = append(q.routes, rt)
		}
	}
	if name != "" && len(q.routes) == 0 {
		http.Error(w, "there is no such route; /api/status has their names", http.StatusBadRequest)
		return q, false
	}
	return q, true
}

// fits reports whether a stream is searched for.
func (q *asked) fits(i *stream.Info) bool {
	if q.search == "" || strings.Contains(strings.ToLower(i.Upstream), q.search) || i.State == q.search {
		return true
	}
	for _, one := range i.Path {
		if strings.Contains(strings.ToLower(one.Value), q.search) || strings.ToLower(one.Name+"="+one.Value) == q.search {
			return true
		}
	}
	return false
}

// ClientShown is one client.
type ClientShown struct {
	Route   string `json:"route"`
	Address string `json:"address"` // from a trusted proxy, or its connection's; "" not known
	Writer  string `json:"writer"`  // goroutine, shard or h2
	Age     int64  `json:"age"`     // seconds since it came; with HTTP/2 since its connection did
	Behind  uint64 `json:"behind"`  // events that it has not got yet
	Blocked bool   `json:"blocked"` // its connection takes nothing at the moment
}

// AddressShown is an address that clients come from.
type AddressShown struct {
	Address string `json:"address"`
	Clients int    `json:"clients"`
}

// Clients is the answer of /api/clients.
type Clients struct {
	Total     int            `json:"total"` // that fit
	Blocked   int            `json:"blocked"`
	Behind    int            `json:"behind"` // that have not got all events yet
	Ages      []int          `json:"ages"`   // how many came within the last minute, ten minutes, hour, day, and before that
	Addresses []AddressShown `json:"addresses"`
	Clients   []ClientShown  `json:"clients"` // the furthest behind first, then the oldest
	Partial   bool           `json:"partial"` // there are more than are looked at
}

// ages bound the classes of Clients.Ages.
var ages = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour}

// serveClients lists clients: of ?route, whose address begins with ?q, at most ?limit.
func (a *Port) serveClients(w http.ResponseWriter, r *http.Request) {
	q, ok := a.query(w, r)
	if !ok {
		return
	}
	names := map[*deliver.Stats]string{}
	for _, rt := range q.routes {
		names[rt.Clients] = rt.Name
	}
	if t := a.Proxy.Tunnel; t != nil && r.URL.Query().Get("route") == "" {
		names[&t.Clients] = "(tunnel)"
	}
	var seen []deliver.Shown
	partial := false
	a.Proxy.Census(r.Context(), func(s deliver.Shown) bool {
		if names[s.Stats] != "" && (q.search == "" || strings.HasPrefix(addressOf(s).String(), q.search)) {
			seen = append(seen, s)
		}
		partial = len(seen) >= censusMost
		return !partial
	})
	answer := summary(seen, names, q.limit)
	answer.Partial = partial
	answerJSON(w, http.StatusOK, answer)
}

// addressOf is where a client is.
func addressOf(s deliver.Shown) netip.Addr {
	if s.Address.IsValid() {
		return s.Address
	}
	return s.Socket.Addr()
}

func summary(seen []deliver.Shown, names map[*deliver.Stats]string, most int) Clients {
	c := Clients{Total: len(seen), Ages: make([]int, len(ages)+1), Addresses: []AddressShown{}, Clients: []ClientShown{}}
	behind := behinds{newest: map[*stream.Ring]uint64{}}
	byAddress := map[netip.Addr]int{}
	for i := range seen {
		s := &seen[i]
		s.At = behind.of(s)
		byAddress[addressOf(*s)]++
		c.Ages[classOf(s.Age)]++
		if s.Blocked {
			c.Blocked++
		}
		if s.At > 0 {
			c.Behind++
		}
	}
	slices.SortFunc(seen, func(x, y deliver.Shown) int { return cmp.Or(cmp.Compare(y.At, x.At), cmp.Compare(y.Age, x.Age)) })
	for _, s := range seen[:min(most, len(seen))] {
		one := ClientShown{names[s.Stats], "", deliver.Writers[s.Writer], int64(s.Age.Seconds()), s.At, s.Blocked}
		if at := addressOf(s); at.IsValid() {
			one.Address = at.String()
		}
		c.Clients = append(c.Clients, one)
	}
	for at, n := range byAddress {
		if at.IsValid() {
			c.Addresses = append(c.Addresses, AddressShown{at.String(), n})
		}
	}
	slices.SortFunc(c.Addresses, func(x, y AddressShown) int {
		return cmp.Or(cmp.Compare(y.Clients, x.Clients), cmp.Compare(x.Address, y.Address))
	})
	c.Addresses = c.Addresses[:min(len(c.Addresses), addressMost)]
	return c
}

func classOf(age time.Duration) int {
	for i, most := range ages {
		if age < most {
			return i
		}
	}
	return len(ages)
}

// behinds knows the newest events of rings, each asked once.
type behinds struct{ newest map[*stream.Ring]uint64 }

// of is how many events s has not got yet.
func (b *behinds) of(s *deliver.Shown) uint64 {
	newest, known := b.newest[s.Ring]
	if !known {
		newest, _ = s.Ring.Last()
		b.newest[s.Ring] = newest
	}
	if stream.Pending(s.At) || s.At >= newest {
		return 0
	}
	return newest - s.At
}

// serveEvents shows the newest events of ?stream, an epoch, in ?route.
func (a *Port) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !a.Payloads {
		http.Error(w, "events may hold what is for their clients only; SSE_ADMIN_PAYLOADS=true has them shown here", http.StatusForbidden)
		return
	}
	q, ok := a.query(w, r)
	if !ok {
		return
	}
	epoch, err := strconv.ParseUint(r.URL.Query().Get("stream"), 10, 64)
	if err != nil {
		http.Error(w, "stream is an epoch, as /api/streams has it", http.StatusBadRequest)
		return
	}
	for _, rt := range q.routes {
		if events, found := rt.Streams.Newest(stream.Epoch(epoch), newestMost, newestSize); found {
			texts := make([]string, len(events))
			for i, e := range events {
				texts[i] = strings.ToValidUTF8(string(e), "\ufffd")
			}
			answerJSON(w, http.StatusOK, map[string]any{"events": texts})
			return
		}
	}
	http.Error(w, "there is no such stream any more", http.StatusNotFound)
}

// setLevel sets the level of the log until the process ends.
func (a *Port) setLevel(w http.ResponseWriter, r *http.Request) {
	const want = `the body is to be {"level":"debug"}, or info, warn, error`
	var what struct {
		Level string `json:"level"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&what); err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, what.Level) {
		http.Error(w, want, http.StatusBadRequest)
		return
	}
	if a.Lines == nil || a.Lines.Tail == nil {
		http.Error(w, "there is no log here", http.StatusNotFound)
		return
	}
	_ = a.Lines.Tail.Level.UnmarshalText([]byte(what.Level)) // it is one of four
	a.log.Warn("the log's level was set on the admin port", "level", what.Level)
	answerJSON(w, http.StatusOK, what)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v) // a client that has disconnected is no error
}
