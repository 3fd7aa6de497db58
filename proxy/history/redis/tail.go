package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

const (
	maxHints  = 1000 // read at once
	maxTaken  = 1000 // entries of one stream, read at once
	followers = 32   // streams that are read at once
)

// tail reads the hints of buckets, which are at one node, and has the streams that have grown read.
func (s *Store) tail(ctx context.Context, of []*bucket) {
	c := *s.conn.Load()
	logs := feeds(s, of)
	for fresh := true; ctx.Err() == nil; {
		if fresh {
			if s.newest(ctx, logs) != nil {
				pause(ctx, retryTime)
				continue
			}
			s.sweep(ctx, &scratch{}, of)
			fresh = false
		}
		names, err := s.hints(ctx, c, logs)
		if err != nil {
			fresh = true
			pause(ctx, retryTime)
			continue
		}
		s.follow(ctx, names)
	}
}

// feed is a stream of hints, or of words to all replicas, that is read.
type feed struct {
	key   string
	last  string // the newest entry that was read; "" none was
	words bool
}

// feeds are those of buckets; the words to all replicas are in the first one's slot.
func feeds(s *Store, of []*bucket) (all []*feed) {
	for _, b := range of {
		all = append(all, &feed{key: b.hints})
		if b.number == 0 {
			all = append(all, &feed{key: b.words, words: true})
		}
	}
	return all
}

// newest begins after the newest entry of each feed. After an error it goes on where it was, unless the store begins anew.
func (s *Store) newest(ctx context.Context, of []*feed) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := *s.conn.Load()
	var all rueidis.Commands
	for _, f := range of {
		all = append(all, c.B().Xrevrange().Key(f.key).End("+").Start("-").Count(1).Build())
	}
	for i, r := range c.DoMulti(ctx, all...) {
		list, err := r.AsXRange()
		if err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
		at := "0-0"
		if len(list) > 0 {
			at = list[0].ID
		}
		if of[i].last == "" || earlier(at, of[i].last) {
			of[i].last = at
		}
	}
	return nil
}

// earlier reports whether the entry a comes before b.
func earlier(a, b string) bool {
	p, _ := parsePlace(a)
	q, _ := parsePlace(b)
	return p.Before(q)
}

// hints waits for hints, and returns the streams that they name.
func (s *Store) hints(ctx context.Context, c rueidis.Client, of []*feed) (hints map[name]hint, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*blockTime)
	defer cancel()
	var keys, ids []string
	byKey := map[string]*feed{}
	for _, f := range of {
		keys, ids = append(keys, f.key), append(ids, f.last)
		byKey[f.key] = f
	}
	got, err := c.Do(ctx, c.B().Xread().Count(maxHints).Block(blockTime.Milliseconds()).Streams().Key(keys...).Id(ids...).Build()).AsXRead()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	hints = map[name]hint{}
	for key, list := range got {
		for _, x := range list {
			f := byKey[key]
			if f == nil {
				continue
			}
			if f.last = x.ID; f.words {
				s.heard(x.FieldValues)
				continue
			}
			n, ok := parseName(x.FieldValues["s"])
			if !ok {
				continue
			}
			h := hints[n]
			if h.n++; h.n > 1 {
				h.writer = ""
			} else {
				h.writer = x.FieldValues["w"]
			}
			h.released = h.released || x.FieldValues["x"] != ""
			hints[n] = h
		}
	}
	return hints, nil
}

// hint is what hints say of one stream.
type hint struct {
	n        int
	writer   string // the token of the one who wrote it; "" several have
	released bool
}

// follow reads the streams that have grown, and has those begin a term whose lease was given up.
func (s *Store) follow(ctx context.Context, hints map[name]hint) {
	var grown []*log
	s.mu.Lock()
	for n, h := range hints {
		for l := s.logs[n]; l != nil; l = l.next {
			if l.isToken(h.writer) {
				continue
			}
			grown = append(grown, l)
			if h.released && l.wants.Load() {
				l.rouse()
			}
		}
	}
	s.mu.Unlock()
	s.read(ctx, grown)
}

// read brings streams up to date, several at once.
func (s *Store) read(ctx context.Context, logs []*log) {
	if len(logs) == 1 {
		logs[0].refresh(ctx)
		return
	}
	s.stats.behind.Store(int64(len(logs)))
	defer s.stats.behind.Store(0)
	var all sync.WaitGroup
	turn := make(chan struct{}, followers)
	for _, l := range logs {
		turn <- struct{}{}
		all.Go(func() { // ends with the command
			defer func() { <-turn }()
			l.refresh(ctx)
		})
	}
	all.Wait()
}

// Refresh is [history.Log]'s. A holder that is asked for what it does not know may have been replaced, and not know that either.
func (l *log) Refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*commandTime)
	defer cancel()
	l.mu.Lock()
	role := l.role
	l.mu.Unlock()
	switch role {
	case following:
		l.overtake(ctx)
	case leading:
		l.doubt(ctx)
	}
}

// overtake has a follower read what is new, also where the store was away a moment ago: somebody waits for it.
func (l *log) overtake(ctx context.Context) {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	role := l.role
	l.mu.Unlock()
	if role == following {
		l.catchUp(ctx)
	}
}

// doubt has a holder find out whether it still is one. Where it is not, doubt returns once the stream has what its successor has appended, or ctx is
// done.
func (l *log) doubt(ctx context.Context) {
	l.work.Lock()
	l.assure()
	if l.leads() && !l.bucket.away.Load() {
		l.compare()
	}
	l.work.Unlock()
	for l.steps() && !l.wants.Load() && ctx.Err() == nil { // until Lead has caught up
		pause(ctx, time.Millisecond)
	}
}

// steps reports whether the log follows, or is about to.
func (l *log) steps() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.role == following
}

// refresh has a follower read what is new, and a holder look whether it has been replaced.
func (l *log) refresh(ctx context.Context) {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	role := l.role
	l.mu.Unlock()
	if l.bucket.away.Load() {
		return
	}
	switch role {
	case following:
		l.catchUp(ctx)
	case leading:
		l.compare()
	}
}

// compare has a holder compare what the store has with what it has. work is held.
func (l *log) compare() {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	l.append(context.Background(), history.Batch{Epoch: l.epoch}, last)
}

// catchUp gives a follower what the store has after what it has. work is held.
func (l *log) catchUp(ctx context.Context) error {
	for {
		l.mu.Lock()
		last, follower, pasts := l.last, l.follower, l.pasts
		l.mu.Unlock()
		if follower == nil {
			return nil // what is to come is read once it is there
		}
		entries, past, err := l.since(ctx, last, pasts)
		if err != nil {
			return err
		}
		if !pasts {
			for i := range entries {
				pasts = pasts || entries[i].past
			}
			if pasts { // to be read at one moment with the entries
				l.mu.Lock()
				l.pasts = true
				l.mu.Unlock()
				continue
			}
		}
		if len(entries) > 0 {
			older, err := l.olderFor(ctx, entries)
			if err != nil {
				return err
			}
			l.take(follower, entries, older, past)
		}
		if pasts || len(entries) < maxTaken {
			return nil
		}
	}
}

// olderFor reads what stands in for the past where something is missing before one of the entries, or there is nothing yet.
func (l *log) olderFor(ctx context.Context, entries []entry) ([]history.Event, error) {
	l.mu.Lock()
	last, hole := l.last, l.ahead || l.fresh
	l.mu.Unlock()
	for i := range entries {
		hole = hole || !entries[i].after(last)
		last = entries[i].Position
	}
	if !hole {
		return nil, nil
	}
	m, err := l.store.exec(ctx, l.bucket, loadTime, loading, []string{l.key("none"), l.key("m"), l.key("k"), l.key("none")}, []string{"-"})
	if err != nil {
		return nil, err
	}
	_, _, keyed, _, err := parseLoaded(m)
	var older []history.Event
	for _, e := range keyed {
		if e.Before(entries[0].Position) {
			older = append(older, e)
		}
	}
	return older, err
}

// since reads the entries after last, and the past if there is one.
func (l *log) since(ctx context.Context, last history.Position, pasts bool) (entries []entry, past []byte, err error) {
	s := l.store
	begin := "(" + place(last)
	if pasts {
		m, err := s.exec(ctx, l.bucket, loadTime, loading, []string{l.key("s"), l.key("m"), l.key("none"), l.key("none")}, []string{begin})
		if err != nil {
			return nil, nil, err
		}
		entries, about, _, _, err := parseLoaded(m)
		return entries, about.past, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := *s.conn.Load()
	m, err := c.Do(ctx, c.B().Xrange().Key(l.key("s")).Start(begin).End("+").Count(maxTaken).Build()).ToMessage()
	if s.note(l.bucket, err) != nil {
		return nil, nil, err
	}
	entries, err = parseEntries(m)
	return entries, nil, err
}

// take gives entries to the follower, and says where something is missing before them.
func (l *log) take(f history.Follower, entries []entry, older []history.Event, past []byte) {
	l.mu.Lock()
	last, fresh, hole := l.last, l.fresh, l.ahead
	l.mu.Unlock()
	var run []history.Event
	for i := range entries {
		e := &entries[i]
		if !fresh && !e.after(last) {
			f.Take(run, nil, nil, hole)
			run, hole = nil, true
			l.store.stats.damaged.Add(1)
		}
		last, fresh = e.Position, false
		run = append(run, e.Event)
		if e.End != 0 {
			l.end()
		}
	}
	newest := entries[len(entries)-1]
	if !newest.marker() {
		l.store.stats.lag.note(time.Since(newest.At))
	}
	f.Take(run, older, past, hole)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.seen, l.fresh, l.ahead = last, max(l.seen, last.Epoch), false, false
}

// end notes that the stream has ended.
func (l *log) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.rouse()
}
