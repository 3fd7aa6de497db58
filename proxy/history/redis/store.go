package redis

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

const (
	commandTime = time.Second            // for an answer; an event waits no longer for its append
	loadTime    = 3 * time.Second        // for that of a whole stream
	blockTime   = 2 * time.Second        // for which a command waits for hints
	retryTime   = 100 * time.Millisecond // how often what failed is tried again
	trimTime    = 5 * time.Second        // for which the store keeps what a stream has let go of, at least
)

// Store is [history.Running] in Redis.
type Store struct {
	Settings
	log     *slog.Logger
	replica string // this one's name
	buckets []*bucket
	key     []byte // that names are made with

	trimTime time.Duration // a test may change it

	made   atomic.Uint64 // logs so far
	began  time.Time
	conn   atomic.Pointer[rueidis.Client]
	ready  chan struct{} // closed when conn is set
	hear   atomic.Pointer[func([]byte)]
	sealed cipher.AEAD // seals words
	stop   context.CancelFunc
	run    sync.WaitGroup
	stats  stats

	mu   sync.Mutex    // guards what follows
	logs map[name]*log // the latest of each stream; the others hang on it
}

// bucket is what streams of the same slot have in common.
type bucket struct {
	number int
	prefix string       // of its streams' keys
	hints  string       // the key of its hints
	words  string       // that of what replicas tell each other, if it is the first one
	notes  string       // that of notes
	away   atomic.Bool  // the last command failed
	asked  atomic.Bool  // since then somebody's lease was asked for, in vain
	since  atomic.Int64 // when it came back last, a Duration since the store began; 0: it was never away
	back   atomic.Bool  // what could not be kept is to be tried again
}

type stats struct {
	appends, events, bytes, failures, damaged, retries, reseeds, takeovers atomic.Int64
	lag                                                                    peak
	behind                                                                 atomic.Int64
}

// Open makes a store and has it connect, until Stop.
func Open(settings Settings, logger *slog.Logger) *Store {
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{Settings: settings, log: logger, replica: newReplica(), ready: make(chan struct{}), stop: stop, logs: map[name]*log{}, began: time.Now()}
	n := buckets
	if settings.Cluster {
		n = clusterBuckets
	}
	for i := range n {
		s.buckets = append(s.buckets, s.newBucket(i))
	}
	s.key, s.sealed, s.trimTime = s.secret(), s.seal(), trimTime
	s.run.Go(func() { s.serve(ctx) }) // ends with Stop, which waits
	return s
}

// newReplica is a name that no other replica has: 50 random bits.
func newReplica() string {
	var random [7]byte
	rand.Read(random[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random[:]))[:10]
}

// serve connects, and then does what is due until ctx is done.
func (s *Store) serve(ctx context.Context) {
	if !s.connect(ctx) {
		return
	}
	close(s.ready)
	var all sync.WaitGroup
	step := len(s.buckets) // one command reads the hints of all buckets, but for a cluster, where they are at several nodes
	if s.Cluster {
		step = 1
	}
	for i := 0; i < len(s.buckets); i += step {
		all.Go(func() { s.tail(ctx, s.buckets[i:i+step]) }) // ends with ctx
	}
	all.Go(func() { s.beat(ctx) })  // ends with ctx
	all.Go(func() { s.lease(ctx) }) // ends with ctx
	all.Wait()
	(*s.conn.Load()).Close()
}

// connect returns once there is a connection; false: ctx is done.
func (s *Store) connect(ctx context.Context) bool {
	said := ""
	for {
		client, err := s.client()
		if err == nil {
			s.conn.Store(&client)
			s.log.Info("the history is connected", "store", s.Settings.String(), "replica", s.replica)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if text := kind(err); text != said {
			s.log.Error("the history cannot be reached, streams go on without it", "store", s.Settings.String(), "err", text)
			said = text
		}
		pause(ctx, 5*retryTime)
	}
}

// kind is err without what an address could tell.
func kind(err error) string {
	if r, ok := rueidis.IsRedisErr(err); ok {
		return r.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// wait returns the connection, once there is one; nil: ctx ended first.
func (s *Store) wait(ctx context.Context) rueidis.Client {
	select {
	case <-s.ready:
		return *s.conn.Load()
	default:
	}
	select {
	case <-s.ready:
		return *s.conn.Load()
	case <-ctx.Done():
		return nil
	}
}

// exec runs a script for b, and notes whether it could be. That the store can be read does not say that it takes writes.
func (s *Store) exec(ctx context.Context, b *bucket, within time.Duration, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return rueidis.RedisMessage{}, s.note(b, history.ErrAway)
	}
	m, err := script.Exec(ctx, c, keys, args).ToMessage()
	if err == nil && script == loading {
		return m, nil
	}
	return m, s.note(b, err)
}

// note notes how a command of b went.
func (s *Store) note(b *bucket, err error) error {
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	if r, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(r.Error(), "ERR ") { // a fault of one command's
		return err
	}
	if errors.Is(err, context.Canceled) { // whoever asked does not wait any more
		return err
	}
	if away := err != nil; b.away.Swap(away) != away {
		b.asked.Store(false)
		if away {
			s.log.Warn("the history is away, streams go on without it", "bucket", b.number, "err", kind(err))
		} else {
			s.log.Info("the history is back", "bucket", b.number)
			b.since.Store(int64(s.since()))
			b.back.Store(true)
		}
	}
	return err
}

// Replica is what this process is called among the replicas.
func (s *Store) Replica() string { return s.replica }

// Holder is [history.Store]'s.
func (s *Store) Holder(ctx context.Context, route string, identity [sha256.Size]byte) (string, error) {
	l := &log{store: s}
	l.name, l.bucket = s.nameOf(route, identity)
	held, err := s.get(ctx, l.bucket, l.key("l"))
	replica, _, _ := strings.Cut(held, "|")
	if replica == s.replica {
		replica = ""
	}
	return replica, err
}

// Address is where the other replicas reach one; "": it is not there, or not to be reached.
func (s *Store) Address(ctx context.Context, replica string) (string, error) {
	return s.get(ctx, s.buckets[0], s.peerKey(replica))
}

func (s *Store) get(ctx context.Context, b *bucket, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return "", history.ErrAway
	}
	text, err := c.Do(ctx, c.B().Get().Key(key).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	return text, err
}

// Report is [history.Running]'s.
func (s *Store) Report() history.Report {
	st := &s.stats
	r := history.Report{Shared: true, Replica: s.replica, Up: s.conn.Load() != nil, Appends: st.appends.Load(), Events: st.events.Load(), Bytes: st.bytes.Load(),
		Failures: st.failures.Load(), Damaged: st.damaged.Load(), Retries: st.retries.Load(), Reseeds: st.reseeds.Load(),
		Takeovers: st.takeovers.Load(), Lag: st.lag.longest(), Behind: st.behind.Load()}
	for _, b := range s.buckets {
		r.Up = r.Up && !b.away.Load()
	}
	for _, l := range s.open() {
		r.Streams++
		if l.leads() {
			r.Leading++
		}
	}
	return r
}

// since is how long ago the store was begun: a time that takes less room than one of the calendar's.
func (s *Store) since() time.Duration { return time.Since(s.began) }

// open are the logs that are.
func (s *Store) open() (all []*log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		for ; l != nil; l = l.next {
			all = append(all, l)
		}
	}
	return all
}

// Stop is [history.Running]'s.
func (s *Store) Stop() {
	s.stop()
	s.run.Wait()
}
