// This file is what an operator is shown of single streams.

package stream

import (
	"bytes"
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

// Concern is how soon an operator looks at streams in a state: the least first.
func Concern(state string) int { return slices.Index(byConcern, state) }

// Info is one stream, without anything that is a secret.
type Info struct {
	Upstream string           // its address: see [upstream.Redact]
	Path     []upstream.Named // what the client's path has named
	State    string
	Ring     *Ring
	Opened   time.Time
	Error    string // of the last failure; "" when there was none
	ErrorAt  time.Time
}

// Contents are what a ring holds.
type Contents struct {
	Epoch  Epoch     // that it gives ids of now
	Events uint64    // number of the newest
	Newest time.Time // when that came; zero where none is kept
	Kept   int       // events
	Bytes  int       // of them
}

// List returns the streams for which match is true.
func (s *Streams) List(match func(*Info) bool) (list []Info) {
	for _, info := range s.infos() {
		if match(&info) {
			list = append(list, info)
		}
	}
	return list
}

// infos is what is known of all streams.
func (s *Streams) infos() (infos []Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(st *Stream, state string) {
		infos = append(infos, Info{Upstream: st.req.String(), Path: st.req.Path(), Ring: st.Ring, State: state, Opened: st.opened, Error: st.failure, ErrorAt: st.failed})
	}
	for _, st := range s.byKey {
		add(st, st.state())
	}
	for st := range s.old {
		add(st, Releasing)
	}
	return infos
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

// Contents is what the ring holds now.
func (r *Ring) Contents() Contents {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Contents{Epoch: r.lives[len(r.lives)-1].epoch, Events: r.log.last, Kept: r.log.len(), Bytes: r.log.bytes}
	if e := r.log.newest(); e != nil {
		c.Newest = e.at.wall()
	}
	return c
}

// Newest returns up to so many of the newest events of the stream whose ids are of epoch, oldest first, as they are written to clients; of each no
// more than size bytes. found is false where there is no such stream.
func (s *Streams) Newest(epoch Epoch, most, size int) (events [][]byte, found bool) {
	for _, i := range s.infos() {
		if i.Ring.Epoch() == epoch {
			return i.Ring.newest(most, size), true
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
