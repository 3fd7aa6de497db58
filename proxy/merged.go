// This file is who may read a stream that is made of several, and what it is made of for them. The rules:
//
//   - Each part is admitted as if it had been asked for alone: by its AUTH, within its limits, with what its upstream says. Where it is not, the others go on,
//     and the client is told with what status.
//   - The stream's identity is those of its parts, and which of them are not there: two clients share it exactly when they would share each part.
//   - A part for which there is only no room now is not there now. Its clients are told to come back before long, so that it is tried again.

package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
	"sidestream/proxy/merge"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate/sse"
)

// member is a part as one client has it, or the status with which it does not.
type member struct {
	label, about string
	status       int  // 0: it is there
	soon         bool // it will be: its history is being read
	route        *Route
	request      upstream.Request
	set          *set // of a part that is merged itself
	pass         *access.Pass
	taken        bool         // a place in the route, and in its stream
	seat         *stream.Seat // until the merged stream has one
}

// set is what one client's stream is made of.
type set struct {
	request upstream.Request
	members []member
	words   []byte   // what the client is told of the parts that are not there
	ids     []string // what it has received last of those that are; nil: nothing of any
	passes  []*access.Pass
	busy    bool          // there was only no room for one
	soon    bool          // there will be soon
	left    func()        // gives back what is taken in the parts by a client of the stream
	source  *merge.Source // of the stream; nil: of a route, whose clients have no places in the parts, and which another process may run
}

// expand is what a client of the route wants of the upstream.
func (rt *Route) expand(ctx context.Context, g *guest) (upstream.Request, error) {
	names := rt.Upstream.Merges()
	if names == nil {
		return rt.Upstream.ExpandFor(g.r, g.r.PathValue, g.pass.Claim)
	}
	members := make([]member, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		m := &members[i]
		m.label, m.about = name, aboutRoute(name)
		asking.Go(func() { rt.proxy.table().named(name).joinNamed(ctx, g, m) }) // ends within the time that a part is waited for
	}
	asking.Wait()
	g.set = rt.gather(members, merge.Plan{Route: rt.Upstream, Keys: rt.Start == stream.StartKeys, Events: rt.ReplayEvents})
	if g.set.request.Route == nil {
		none := &errNoPart{members[0].status, g.set.soon}
		if g.set.busy { // which passes, unlike what others are refused for
			none.status = http.StatusServiceUnavailable
		}
		return upstream.Request{}, none
	}
	return g.set.request, ctx.Err()
}

// aboutRoute is what notices say of a part that is a route.
func aboutRoute(name string) string { return `"route":"` + name + `"` }

// joinNamed admits a client of a merged route to one of its parts.
func (rt *Route) joinNamed(ctx context.Context, g *guest, m *member) {
	if rt == nil { // since a moment ago
		m.status = http.StatusServiceUnavailable
		return
	}
	part := guest{r: rt.asked(g.r)}
	sealed := false
	if g.ticket != nil {
		_, sealed = g.ticket.Paths[part.r.URL.EscapedPath()]
	}
	var err error
	switch {
	case rt.guard == nil:
	case sealed:
		part.pass, err = rt.guard.AdmitTicket(ctx, rt.proxy.client(part.r), g.ticket, part.r.URL.EscapedPath())
	default:
		part.pass, err = rt.guard.Admit(ctx, rt.proxy.client(part.r))
	}
	rt.join(ctx, &part, err, m)
}

// asked is what r, a request for a route that merges rt, would be for rt alone: its path has the values of r's wildcards.
func (rt *Route) asked(r *http.Request) *http.Request {
	var path strings.Builder
	for segment := range strings.SplitSeq(strings.TrimPrefix(rt.Path, "/"), "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			if name == "$" {
				continue
			}
			segment = url.PathEscape(r.PathValue(name))
		}
		path.WriteString("/" + segment)
	}
	in := r.WithContext(r.Context()) // with the values of its path
	in.URL = new(url.URL)
	*in.URL = *r.URL
	in.URL.RawPath = path.String()
	in.URL.Path, _ = url.PathUnescape(in.URL.RawPath) // which was escaped just now
	in.RequestURI = in.URL.RequestURI()
	return in
}

// join admits a client to rt, as a part. err is why its AUTH does not.
func (rt *Route) join(ctx context.Context, g *guest, err error, m *member) {
	m.route = rt
	if err == nil {
		m.request, err = rt.expand(ctx, g)
		m.set = g.set
	}
	if err == nil && !rt.takePart(m.request.Key, m) {
		err = stream.ErrBusy
	}
	if err == nil {
		m.pass = g.pass
		m.seat, err = rt.Streams.Join(ctx, m.request)
	}
	if m.status = partStatus(err); m.status == 0 {
		return
	}
	none, _ := errors.AsType[*errNoPart](err)
	m.soon = errors.Is(err, stream.ErrUnread) || none != nil && none.soon
	rt.deliver.Log.Debug("part not joined", "client", g.r.RemoteAddr, "status", m.status, "err", err)
	rt.proxy.Rejected[rejectionOf(m.status, err)].Add(1)
	m.leave()
}

// takePart takes a client's place in the route and in its stream, which m gives back.
func (rt *Route) takePart(key deliver.Key, m *member) bool {
	if !rt.own.Take() {
		return false
	}
	most := rt.MaxPerStream
	if most == 0 { // counted all the same: what is given back is the same for all clients of the merged stream, whatever a reload has changed
		most = math.MaxInt
	}
	if m.taken = rt.perStream.take(key, most); !m.taken {
		rt.own.Give()
	}
	return m.taken
}

// taking is a client's place in a route, and in one of its streams.
type taking struct {
	route *Route
	key   deliver.Key
}

func (p taking) give() {
	p.route.own.Give()
	p.route.perStream.give(p.key)
}

// places are what a client has taken in its parts, and in theirs.
func (s *set) places() (all []taking) {
	for i := range s.members {
		m := &s.members[i]
		if m.taken {
			all = append(all, taking{m.route, m.request.Key})
		}
		if m.set != nil {
			all = append(all, m.set.places()...)
		}
	}
	return all
}

// leave gives back what the member has taken.
func (m *member) leave() {
	m.stand()
	if m.taken {
		m.taken = false
		taking{m.route, m.request.Key}.give()
	}
	if m.set != nil {
		m.set.leave()
		m.set = nil
	}
}

// stand gives up the seat: the merged stream has one by now, or none is wanted.
func (m *member) stand() {
	if m.seat != nil {
		m.seat.Leave()
		m.seat = nil
	}
}

// gather makes a set of members by plan, which lacks its parts. The set's request is the zero one when none is there.
func (rt *Route) gather(members []member, plan merge.Plan) *set {
	s := &set{members: members}
	h := sha256.New()
	hash := func(text string) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	hash(fmt.Sprint("merged", plan.Indexed, plan.Marks))
	var names []string
	for i := range members {
		m := &members[i]
		hash(m.label)
		hash(m.about)
		if m.status != 0 {
			hash("refused")
			s.busy, s.soon = s.busy || m.status == http.StatusServiceUnavailable, s.soon || m.soon
			s.words = appendRefused(s.words, plan.Marks, m, "", m.status)
			continue
		}
		hash(m.route.Name)
		hash(string(m.request.Key[:]))
		names = append(names, m.route.Name)
		plan.Parts = append(plan.Parts, merge.Part{Label: m.label, About: m.about, Start: m.route.Start, Streams: m.route.Streams, Request: m.request})
		s.include(plan.Marks, m)
	}
	if len(plan.Parts) == 0 {
		return s
	}
	places := s.places()
	leave := func() {
		for _, one := range places {
			one.give()
		}
	}
	s.request = rt.Upstream.Merged([sha256.Size]byte(h.Sum(nil)), shownNames(names), func(log *slog.Logger) upstream.Source { return merge.New(plan, log) }, leave)
	return s
}

// include takes in what a client has taken for a part, and within it.
func (s *set) include(marks bool, m *member) {
	if m.pass != nil {
		s.passes = append(s.passes, m.pass)
	}
	if m.set == nil {
		return
	}
	s.passes = append(s.passes, m.set.passes...)
	s.busy, s.soon = s.busy || m.set.busy, s.soon || m.set.soon
	for i := range m.set.members {
		if inner := &m.set.members[i]; inner.status != 0 {
			s.words = appendRefused(s.words, marks, m, inner.about+",", inner.status)
		}
	}
}

// appendRefused tells that a part, or with inner a part of it, is not there.
func appendRefused(dst []byte, marks bool, m *member, inner string, status int) []byte {
	if marks {
		dst = sse.AppendMark(dst, m.label+" ")
	}
	return sse.AppendNotice(dst, "", "stream.refused", fmt.Appendf(nil, `{"status":%d,%s%s}`, status, inner, m.about))
}

// shownNames are routes, for logs.
func shownNames(names []string) string {
	const most = 8
	if len(names) > most {
		return "routes:" + strings.Join(names[:most], ",") + ",…"
	}
	return "routes:" + strings.Join(names, ",")
}

// leave gives back what was taken in the parts.
func (s *set) leave() {
	for i := range s.members {
		s.members[i].leave()
	}
}

// again is after how long a client is to come back for the parts that there was no room for.
func (s *set) again(pacing *deliver.Pacing) time.Duration {
	if s.soon {
		return pacing.RetryHint()
	}
	return busyTime + rand.N(busyTime)
}

// settle finds out where c begins, whose seat is in the merged stream, and has it keep what it has taken in the parts. false: the stream is not there yet.
func (s *set) settle(ctx context.Context, g *guest, c *deliver.Client) bool {
	if placeless := g.id == "" || c.Lost; placeless && !c.Ring.Told(ctx, merge.ReadyTime) { // what the parts bring meanwhile is not its past
		return false
	}
	if g.id == "" || c.Lost && s.ids != nil {
		at, ok := merge.Enter(c.Ring), true
		if s.source != nil {
			at, ok = s.source.Place(ctx, c.Ring, s.ids)
		}
		if !ok {
			return false
		}
		c.Cursor, c.Lost = at.Cursor, false
		c.Before = append(s.words, at.Words...)
	} else if c.Lost {
		c.Before = s.words
	}
	until, passes := time.Time{}, s.passes
	if s.busy {
		until = time.Now().Add(s.again(c.Route))
	}
	if g.pass != nil {
		passes = append(passes, g.pass)
	}
	for i := range s.members {
		s.members[i].sit()
	}
	gone := []func(){s.left} // what is kept for each client does not grow with the number of its parts
	if c.Gone != nil {
		gone = append(gone, c.Gone)
	}
	if len(passes) > 0 || s.busy {
		whole, leave := access.Join(passes, until)
		c.Pass, gone = whole, append(gone, leave)
	}
	if c.Gone = gone[0]; len(gone) > 1 {
		c.Gone = func() {
			for _, f := range gone {
				f()
			}
		}
	}
	return true
}

// sit gives up the seats that were needed to find out what there is.
func (m *member) sit() {
	m.stand()
	if m.set != nil {
		for i := range m.set.members {
			m.set.members[i].sit()
		}
	}
}
