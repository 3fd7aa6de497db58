// Package history keeps the newest events of streams so that they outlive the process. It knows nothing of rings, clients and upstreams:
// a stream gives it events that are encoded, and what its source needs to go on, and gets both back after a restart.
//
// A [Store] keeps them. [Folder] is the one for a single replica: a folder that one process has at a time. The one that several replicas
// share is in package redis.
package history

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"
)

// Store keeps the events of many streams. Safe for concurrent use.
type Store interface {
	// Open opens a stream of route, closing what has it open in this process, and returns what is known of it. epoch is higher than all
	// that this process has used for it. The log must be closed.
	Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (Log, Loaded, error)
	// Holder is the replica that runs the stream's source, "" where none does or it is this one.
	Holder(ctx context.Context, route string, identity [sha256.Size]byte) (replica string, err error)
}

// Running is a store that is looked after.
type Running interface {
	Store
	Report() Report
	// Stop ends it, once its streams have ended.
	Stop()
}

// Opener opens a store: [Settings], or those of package redis.
type Opener interface {
	Start(log *slog.Logger) (Running, error)
	String() string // without secrets
}

// Log is one stream of a store, while it is open.
type Log interface {
	// Lead returns once this process is the one that runs the stream's source. Until then f is given what others append. The error is
	// ctx's, [ErrEnded], or [ErrClosed].
	Lead(ctx context.Context, f Follower) (Term, error)
	// Append keeps a batch. It is called by one goroutine at a time, within a term. After an error none of it is kept, or it is not known,
	// and the next batch has to begin with the same events, or with later ones, after which nothing before them is known any more. After
	// [ErrClosed] there is no next one: another stream goes on from here.
	Append(Batch) error
	// Refresh returns when a stream that follows has been given what the store had when it was called, if the store can be asked.
	Refresh(ctx context.Context)
	// Brief reports whether an append takes no longer than writing to a file does, so that nothing has to be done meanwhile.
	Brief() bool
	Close()
}

// Words is what a store is too that several replicas share: what one tells, all others hear.
type Words interface {
	// Tell tells the other replicas something. Each hears it once, also one that cannot reach the store for the moment; one that begins later
	// does not. The error says that nobody was told.
	Tell(ctx context.Context, words []byte) error
	// Hear has f called with what other replicas tell, one after the other.
	Hear(f func(words []byte))
}

// Claims is what a log is too whose stream may be led by another process next: it remembers which messages were sent to the upstream.
type Claims interface {
	// Claim notes that the message with this key and digest is about to be sent, or returns what has become of it.
	Claim(ctx context.Context, key string, digest [sha256.Size]byte) (Claim, error)
	// Settle notes that it was sent, or never left and may be tried again.
	Settle(ctx context.Context, key string, digest [sha256.Size]byte, sent bool)
}

// Claim is what is known of a message.
type Claim int

// What is known.
const (
	ClaimNew     Claim = iota // nothing: it may be sent
	ClaimOther                // another message had the key
	ClaimPending              // it was about to be sent; what became of it is not known
	ClaimSent                 // it was sent
)

// Follower is a stream, as its log sees it. Its methods may be called by any goroutine, but only Holds within a call of Append's.
type Follower interface {
	// Holds reports whether the stream still has an event, in its order or as the newest of its key.
	Holds(p Position, key string) bool
	// Take gives it what others have appended after what it has: in order and complete, but for what came before the first of them where
	// hole is true: then older are those that are kept as the newest of their key only. past is [Batch.Past] of the last one; nil: as before.
	Take(events, older []Event, past []byte, hole bool)
	// Since returns what it has that was kept after p, as it is to be kept again, and what all of it comes to.
	Since(p Position) ([]Event, []byte)
	// Older returns the events that it has as the newest of their key only.
	Older() []Event
	// Follows lets it know, from within Lead, that another process runs the source.
	Follows()
	// TermOver ends the context of the last Lead, whose term is over: another process runs the source. It calls nothing of the log.
	TermOver()
	// Retry lets it know that what could not be kept may be now. Where epoch is not 0 the term has an epoch from now on.
	Retry(epoch uint64)
}

// Term is the time for which one process runs a stream's source. It ends with the context of Lead, which [Follower].TermOver ends.
type Term struct {
	Epoch uint64 // of what is appended, whose events are numbered from 1; 0: the store is away, and nothing is kept for now
	State []byte // of the last batch that had one
	Past  []byte // the same
	Again bool   // the source has run before: what came since is missing, unless it can go on from State
	// Damaged: events that clients may have been given are missing, and it is not known where.
	Damaged bool
}

// Position is the number of an event in its stream, its seq, which begins at 1 in each epoch.
type Position struct{ Epoch, Seq uint64 }

// Before reports whether p comes before q in their stream.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

// Ends of a stream, as [Event.End] and [Batch.End] have them; any other number but 0 is the status with which it was refused.
const EndFinished = -1

// Event is one event of a stream.
type Event struct {
	Position
	At   time.Time // when it was appended, to the millisecond
	ID   string    // the upstream's own; "" none
	Key  string    // what a newer event replaces it by; "" none
	Data []byte    // as text/event-stream
	End  int       // not 0: the stream has ended, and this is no event but says how
}

// Batch is what a stream appends at once: all of it is kept, or none.
type Batch struct {
	Epoch  uint64
	Events []Event
	State  []byte   // what the source needs to go on after the events; nil: as before
	Past   []byte   // what all events so far come to, for streams that say so; nil: as before
	Kept   int      // how many of the newest events the stream holds once these are appended
	Oldest Position // the oldest of those
	Gone   []string // keys that the stream has let go of since the last batch
	End    int      // not 0: how the stream has ended, after the events
	Older  []Event  // those that the stream has as the newest of their key only, where the store may not have them
}

// Loaded is what is known of a stream that was there before. The zero value is a stream that nothing is known of.
type Loaded struct {
	Epoch  uint64 // the newest that was used; 0: none
	Events []Event
	Older  int // so many of Events, the first, are only there as the newest of their key; the others are all that came, one after the other
	State  []byte
	Past   []byte
	// Damaged: events that clients may have been given are missing, and it is not known where.
	Damaged bool
}

// Errors of a log.
var (
	ErrClosed = errors.New("the history is closed") // or what it is used for has another user
	ErrEnded  = errors.New("the stream has ended")  // and its follower was told how
	ErrAway   = errors.New("the store is away")     // nothing can be kept for now
)

// Report is how a store is now, and what it has done since the start.
type Report struct {
	Up      bool   // the last append succeeded
	Streams int    // a folder's: kept, open or not; else those that are open here
	Leading int    // streams whose source runs here
	Shared  bool   // by several replicas
	Replica string // what this process is called among them

	Size   int64 // bytes of a folder's files
	Needed int64 // bytes of them that are needed
	Files  int

	Appends   int64 // batches
	Events    int64
	Bytes     int64         // written for them
	Copied    int64         // bytes that a folder has copied to give room back
	Failures  int64         // appends that failed
	Damaged   int64         // files and streams that were found damaged, or had lost events
	Retries   int64         // appends that had to be repeated
	Reseeds   int64         // streams that were written anew from what this process has, since the store had lost them
	Takeovers int64         // terms that were begun for streams whose source had run elsewhere, or before
	Lag       time.Duration // between an event's append and its arrival here; the longest of late. Of several replicas only
	Behind    int64         // streams that have grown in the store and are being read; of several replicas only
}
