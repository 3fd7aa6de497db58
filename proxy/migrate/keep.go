package migrate

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Store keeps when things were seen last. It is safe for concurrent use.
type Store interface {
	// Note keeps notes with their times, which are later than those that were kept of them before.
	Note(ctx context.Context, notes map[string]time.Time) error
	// Noted returns all notes.
	Noted(ctx context.Context) (map[string]time.Time, error)
}

const (
	keepEvery = time.Minute
	keepTime  = 5 * time.Second      // for the store
	lastTime  = time.Second          // for it, when the process ends
	keepFor   = 400 * 24 * time.Hour // stores let go what is older
	// absence is how long a watch may be interrupted and still be the same one: who was there meanwhile was not seen.
	absence = 24 * time.Hour
)

// The notes, but for those that are a [Seen] in JSON, begin with these.
const (
	noteBegan   = "began " // and when the watch began; its time is the same
	noteWatched = "watched"
)

// Kept is a ledger's, with since when it is kept, for all processes that share a store.
type Kept struct {
	Ledger *Ledger
	Store  Store  // nil: what is known ends with the process
	Before func() // is called before the ledger is looked at; nil: nothing is

	loaded bool   // what was kept is read; Run's
	began  string // the note of that the watch has begun, until it is kept; Run's

	mu    sync.Mutex // guards since
	since time.Time
}

// NewKept returns a ledger that was begun now.
func NewKept(store Store) *Kept { return &Kept{Ledger: NewLedger(), Store: store, since: time.Now()} }

// Since is when the watch began: who was there before is not known.
func (k *Kept) Since() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since
}

// Run keeps the ledger until ctx is done, and then once more, for which it takes a second at most.
func (k *Kept) Run(ctx context.Context, log *slog.Logger) {
	if k.Store == nil {
		return
	}
	failing := false
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		err := k.sync(ctx, keepTime)
		if (err != nil) != failing && ctx.Err() == nil { // else it may be that nobody waited
			failing = err != nil
			warn(log, err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if err := k.sync(context.WithoutCancel(ctx), lastTime); !failing {
		warn(log, err)
	}
}

func warn(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("when old clients were seen last cannot be kept in SSE_HISTORY", "err", err)
	}
}

// sync reads what is kept, and notes what is new.
func (k *Kept) sync(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	was, err := k.Store.Noted(ctx)
	if err != nil {
		return err
	}
	k.Ledger.Restore(seenOf(was)) // by a process before, or by other replicas
	if !k.loaded {
		k.loaded = true
		k.restore(was)
	}
	if k.Before != nil {
		k.Before()
	}
	notes := map[string]time.Time{noteWatched: time.Now().Truncate(time.Second)}
	if k.began != "" { // without it, one that was interrupted would count
		notes[k.began] = k.Since().Truncate(time.Second)
	}
	for _, s := range k.Ledger.Seen() {
		note := noteOf(s)
		if at := s.At.Truncate(time.Second); at.After(was[note]) && time.Since(at) < keepFor {
			notes[note] = at
		}
	}
	if err := k.Store.Note(ctx, notes); err != nil {
		return err
	}
	k.began = ""
	return nil
}

// restore resumes the watch of an earlier process. One that was interrupted for too long starts again, which is to be noted.
func (k *Kept) restore(was map[string]time.Time) {
	began := time.Time{}
	for note, at := range was {
		if strings.HasPrefix(note, noteBegan) {
			began = later(began, at) // the newest: those before it were interrupted
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !began.IsZero() && began.Before(k.since) && time.Since(was[noteWatched]) < absence {
		k.since = began
	}
	k.began = noteBegan + k.since.UTC().Format(time.RFC3339)
}

func noteOf(s Seen) string {
	text, _ := json.Marshal([]string{s.Path, string(s.Transport), s.Page, s.Browser}) // it cannot fail
	return string(text)
}

func seenOf(notes map[string]time.Time) (all []Seen) {
	for note, at := range notes {
		var parts []string
		if json.Unmarshal([]byte(note), &parts) == nil && len(parts) == 4 {
			all = append(all, Seen{parts[0], Transport(parts[1]), parts[2], parts[3], at})
		}
	}
	return all
}
