// This file is what an operator is shown of single streams.

package stream

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"sidestream/proxy/upstream"
)

// States of one stream, the ones that an operator looks for first.
const (
	Retrying   = "retrying"   // its upstream is not connected, after it has failed
	Connecting = "connecting" // its upstream has neither connected nor failed yet
	Connected  = "connected"
	Following  = "following" // another replica runs its source
	Releasing  = "releasing" // it has reached its age: its clients are told to come back
	Complete   = "finished"  // remembered for clients that come back for its end
)

var byConcern = []string{Retrying, Connecting, Releasing, Connected, Following, Complete}

// Info is one stream, without anything that is a secret.
type Info struct {
	Upstream string           // its address: see [upstream.Redact]
	Path     []upstream.Named // what the client's path has named
	Epoch    Epoch
	State    string
	Clients  int
	Opened   time.Time
	Error    string // of the last failure; "" when there was none
	ErrorAt  time.Time
	Events   uint64    // number of the newest
	Newest   time.Time // when that came; zero where none is kept
	Kept     int       // events in the ring
	Bytes    int       // of them
}

// List returns the streams for which match is true, those with a failing upstream first, then those with most clients, and at most so many;
// all is how many there are that match.
func (s *Streams) List(match func(*Info) bool, most int) (list []Info, all int) {
	streams, infos := s.infos()
	kept := infos[:0]
	of := map[Epoch]*Stream{}
	for i, info := range infos {
		if match(&info) {
			of[info.Epoch] = streams[i]
			kept = append(kept, info)
		}
	}
	slices.SortFunc(kept, func(a, b Info) int {
		return cmp.Or(cmp.Compare(slices.Index(byConcern, a.State), slices.Index(byConcern, b.State)), cmp.Compare(b.Clients, a.Clients),
			cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Epoch, b.Epoch))
	})
	list = kept[:min(len(kept), most)]
	for i := range list {
		of[list[i].Epoch].Ring.describe(&list[i])
	}
	return list, len(kept)
}

// infos is what is known of all streams without their rings.
func (s *Streams) infos() (streams []*Stream, infos []Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(st *Stream, state string) {
		streams = append(streams, st)
		infos = append(infos, Info{Upstream: st.req.String(), Path: st.req.Path(), Epoch: st.Ring.own, State: state, Clients: st.clients,
			Opened: st.opened, Error: st.failure, ErrorAt: st.failed})
	}
	for _, st := range s.byKey {
		add(st, st.state())
	}
	for st := range s.old {
		add(st, Releasing)
	}
	return streams, infos
}

// state is that of a stream that is in service. Streams.mu is held.
func (st *Stream) state() string {
	switch {
	case st.finished:
		return Complete
	case st.Ring.following():
		return Following
	case st.up:
		return Connected
	case st.failure != "":
		return Retrying
	}
	return Connecting
}

func (r *Ring) following() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.follows && r.end.Kind == Open
}

func (r *Ring) describe(i *Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i.Epoch = r.lives[len(r.lives)-1].epoch
	i.Events, i.Kept, i.Bytes = r.log.last, r.log.len(), r.log.bytes
	if e := r.log.newest(); e != nil {
		i.Newest = e.at
	}
}

// Newest returns up to so many of the newest events of the stream whose ids are of epoch, oldest first, as they are written to clients; of each no
// more than size bytes. found is false where there is no such stream.
func (s *Streams) Newest(epoch Epoch, most, size int) (events [][]byte, found bool) {
	streams, _ := s.infos()
	for _, st := range streams {
		if st.Ring.own == epoch || st.Ring.Epoch() == epoch {
			return st.Ring.newest(most, size), true
		}
	}
	return nil, false
}

func (r *Ring) newest(most, size int) (events [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(most, r.log.len())
	for i := len(r.log.events) - n; i < len(r.log.events); i++ {
		b := r.log.events[i].bytes()
		events = append(events, bytes.Clone(b[:min(len(b), size)]))
	}
	return events
}
