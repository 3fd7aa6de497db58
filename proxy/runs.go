package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

const (
	keptRuns   = 1024      // that have ended, of a route
	keptBytes  = 256 << 20 // of their events
	sweepEvery = time.Second
)

// runs are the runs of one route, by what their clients know of them. The zero value has none. Safe for concurrent use.
type runs struct {
	streams *stream.Streams

	mu      sync.Mutex // guards what follows, and the fields of oneRun that say so
	byID    map[string]*oneRun
	byKey   map[idempotent]*oneRun
	byOwner map[owner]map[string]*oneRun // by id
	swept   time.Time
}

// owner is whose a run is.
type owner = [sha256.Size]byte

// idempotent is an Idempotency-Key: each owner, and each path, has its own.
type idempotent struct {
	owner     owner
	path, key string
}

// oneRun is one run. It does not change.
type oneRun struct {
	id     string
	stream [sha256.Size]byte // its key among the streams
	owner  owner
	named  bool // it has one; else whoever knows the id has it
	path   string
	key    string // Idempotency-Key; "" none
	digest [sha256.Size]byte
	*upstream.Starting
}

// newRun is a run that is started with req, by g.
func newRun(req upstream.Request, whose owner, named bool, path, key string) *oneRun {
	id := rand.Text()
	return &oneRun{id: id, stream: sha256.Sum256([]byte("run " + id)), owner: whose, named: named, path: path, key: key, digest: req.Key, Starting: req.Start()}
}

// errRuns means that an owner has as many runs as it may have.
var errRuns = errors.New("too many runs of yours have not ended; stop one with DELETE, or wait for its end")

// enter takes one in, which is started then, or returns the one that was started with the same Idempotency-Key; with a seat in its stream. The error
// is errRuns, or of [stream.Streams.Sit].
func (rs *runs) enter(one *oneRun, most int) (*oneRun, *stream.Seat, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if time.Since(rs.swept) >= sweepEvery {
		rs.sweep()
	}
	name := idempotent{one.owner, one.path, one.key}
	if known := rs.byKey[name]; one.key != "" && known != nil {
		if seat := rs.streams.Attach(known.stream); seat != nil {
			return known, seat, nil
		}
		rs.forget(known)
	}
	if one.named && most > 0 && len(rs.byOwner[one.owner]) >= most && !rs.room(one.owner, most) {
		return nil, nil, errRuns
	}
	seat, err := rs.streams.Sit(one.Request(one.stream))
	if err != nil {
		return nil, nil, err
	}
	if rs.byID == nil {
		rs.byID, rs.byKey, rs.byOwner = map[string]*oneRun{}, map[idempotent]*oneRun{}, map[owner]map[string]*oneRun{}
	}
	rs.byID[one.id] = one
	if rs.byOwner[one.owner] == nil {
		rs.byOwner[one.owner] = map[string]*oneRun{}
	}
	rs.byOwner[one.owner][one.id] = one
	if one.key != "" {
		rs.byKey[name] = one
	}
	return one, seat, nil
}

// room makes room for another run of an owner's, by forgetting the oldest that have ended; false: there are too many that have not. mu is held.
func (rs *runs) room(whose owner, most int) bool {
	rs.forgetGone(rs.byOwner[whose])
	ended := rs.ended(rs.byOwner[whose])
	if len(rs.byOwner[whose])-len(ended) >= most {
		return false
	}
	for i := 0; len(rs.byOwner[whose]) >= most; i++ {
		rs.drop(ended[i].oneRun)
	}
	return true
}

// find is the run with this id, if it is the owner's; nil: there is none.
func (rs *runs) find(id string, whose owner, path string) *oneRun {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	one := rs.byID[id]
	if one == nil || one.owner != whose || one.path != path {
		return nil
	}
	if _, _, there := rs.streams.Over(one.stream); !there {
		rs.forget(one)
		return nil
	}
	return one
}

// end forgets a run, and its stream.
func (rs *runs) end(one *oneRun) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.drop(one)
}

// drop is end with mu held.
func (rs *runs) drop(one *oneRun) {
	rs.forget(one)
	rs.streams.Drop(one.stream)
}

// forget is called with mu held.
func (rs *runs) forget(one *oneRun) {
	if rs.byID[one.id] != one {
		return
	}
	delete(rs.byID, one.id)
	if delete(rs.byOwner[one.owner], one.id); len(rs.byOwner[one.owner]) == 0 {
		delete(rs.byOwner, one.owner)
	}
	if name := (idempotent{one.owner, one.path, one.key}); rs.byKey[name] == one {
		delete(rs.byKey, name)
	}
}

// endedRun is a run that has ended, with what tells how much it costs to keep it.
type endedRun struct {
	*oneRun
	opened time.Time
	bytes  int
}

// ended are those of some runs that have ended, the one that was started first first. mu is held.
func (rs *runs) ended(of map[string]*oneRun) (all []endedRun) {
	for _, one := range of {
		if over, opened, _ := rs.streams.Over(one.stream); over {
			all = append(all, endedRun{one, opened, rs.streams.Held(one.stream)})
		}
	}
	slices.SortFunc(all, func(a, b endedRun) int { return a.opened.Compare(b.opened) })
	return all
}

// forgetGone forgets those runs whose streams are gone. mu is held.
func (rs *runs) forgetGone(of map[string]*oneRun) {
	for _, one := range of {
		if _, _, there := rs.streams.Over(one.stream); !there {
			rs.forget(one)
		}
	}
}

// sweep forgets runs whose streams are gone, and the oldest of those that have ended where these are too many. mu is held.
func (rs *runs) sweep() {
	rs.swept = time.Now()
	rs.forgetGone(rs.byID)
	ended := rs.ended(rs.byID)
	held := 0
	for _, one := range ended {
		held += one.bytes
	}
	for i := 0; len(ended)-i > keptRuns || held > keptBytes; i++ {
		held -= ended[i].bytes
		rs.drop(ended[i].oneRun)
	}
}

// await returns once the run's request is answered, or, which is false, ctx is done or its stream has ended without it being asked.
func (one *oneRun) await(ctx context.Context, ended <-chan struct{}) bool {
	select {
	case <-one.Answered():
		return true
	case <-ctx.Done():
		return false
	case <-ended:
	}
	select {
	case <-one.Answered(): // just before
		return true
	default:
		return false
	}
}
