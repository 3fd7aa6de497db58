package history

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// defaultSegment is how many bytes a segment has before the next one is begun.
const defaultSegment = 8 << 20

// Settings are those of a [Folder].
type Settings struct {
	Dir  string
	Sync time.Duration // how often what was written is synced to the disk; 0: with each append, less: never
	TTL  time.Duration // how long a stream that is not open is kept; 0: not at all
	Log  *slog.Logger
}

// Folder is the history of one process in a folder of its own. Safe for concurrent use. See record.go for the files.
type Folder struct {
	Settings
	Stats Stats

	lock        *os.File
	key         [nameSize]byte
	segmentSize int64
	readOnly    bool
	torn        int // bytes that were cut off when it was opened

	mu       sync.Mutex // guards what follows, and the fields of entry, run and segment
	segments []*segment // oldest first; the last one is appended to
	current  *os.File   // the last one
	streams  map[name]*entry
	number   uint32 // of the stream that was given one last
	gone     uint64 // the newest epoch of the streams that were forgotten: files may hold them still
	buf      []byte
	damaged  bool      // when it was opened
	stale    bool      // the file of that name says so
	owing    int       // streams that owe events
	unnoted  int       // of these, those of which no file knows
	failing  bool      // the last append failed
	tried    time.Time // when the last append was tried
	closed   bool
	garbage  []*segment // to be unlinked, once what was copied out of them is synced
	untidy   chan struct{}
}

// segment is one file.
type segment struct {
	number  uint32
	size    int64
	live    int64           // bytes of it that are still needed
	dirty   bool            // something of it is not synced
	hurt    bool            // not all of it can be read: it is rewritten before any other
	defined map[*entry]bool // the streams that it defines; nil once it is full
}

// entry is what is known of one stream.
type entry struct {
	name   name
	number uint32
	epoch  uint64   // the newest that was used
	born   uint64   // events of older epochs are void
	last   Position // of the newest event
	events []kept   // the newest ones, each after the one before
	keyed  []kept   // older ones, each of which was the newest of its key when it was let go
	state  ref
	past   ref
	log    *FolderLog // while it is open
	open   Follower   // of the log; nil: all is held
	opened bool       // it was, by this process
	lacks  bool       // events that its state stood after were not found
	owes   bool       // clients may have been given events that it does not have; see owed.go
	owed   ref        // which says so
	idle   time.Time  // when it was closed
	sorted int        // how many keyed events it takes for those that are not held to be looked for
}

// kept is an event that is needed.
type kept struct {
	Position
	ref
	key string
}

// ref is where a record is. The zero value is nowhere.
type ref struct {
	segment  *segment
	at, size uint32
}

// Open takes the folder, which it makes if there is none, and reads what is in it. It fails when another process has it, or when it
// cannot be read or written. It must be closed, and [Folder.Run] be running meanwhile.
func Open(s Settings) (*Folder, error) {
	f := &Folder{Settings: s, segmentSize: defaultSegment, streams: map[name]*entry{}, untidy: make(chan struct{}, 1)}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder %s cannot be made: %w", s.Dir, plain(err))
	}
	if err := f.take(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{f.readKey, f.readStale, f.recover, f.begin, f.noteOwed} {
		if err := step(); err != nil {
			f.release()
			return nil, fmt.Errorf("the folder %s: %w", s.Dir, plain(err))
		}
	}
	return f, nil
}

// plain is err without the path, which the caller names.
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s %s: %w", path.Op, filepath.Base(path.Path), path.Err)
	}
	return err
}

func (f *Folder) path(file string) string { return filepath.Join(f.Dir, file) }

func (f *Folder) release() {
	if f.current != nil {
		f.current.Close()
	}
	f.lock.Close()
}

// readKey reads the key that names are made with, or makes one.
func (f *Folder) readKey() error {
	key, err := os.ReadFile(f.path("key"))
	switch {
	case err == nil && len(key) == len(f.key):
		copy(f.key[:], key)
		return nil
	case err == nil:
		return errors.New("key has another size than 32 bytes; restore it, or remove the whole folder")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	rand.Read(f.key[:])
	return os.WriteFile(f.path("key"), f.key[:], 0o600)
}

// begin begins a segment.
func (f *Folder) begin() error {
	n := uint32(1)
	if len(f.segments) > 0 {
		n = f.segments[len(f.segments)-1].number + 1
	}
	file, err := os.OpenFile(f.path(segmentName(n)), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt([]byte(segmentMagic), 0); err != nil {
		file.Close()
		os.Remove(file.Name())
		return err
	}
	if f.current != nil {
		f.segments[len(f.segments)-1].defined = nil
		f.current.Close() // what is not synced yet, Run syncs: the kernel keeps it
	}
	f.current = file
	f.segments = append(f.segments, &segment{number: n, size: int64(len(segmentMagic)), defined: map[*entry]bool{}})
	return nil
}

func segmentName(n uint32) string { return fmt.Sprintf("%08x", n) }

// last is the segment that is appended to.
func (f *Folder) lastSegment() *segment { return f.segments[len(f.segments)-1] }

// nameOf is what the stream with this identity is called in the folder.
func (f *Folder) nameOf(route string, identity [sha256.Size]byte) (n name) {
	mac := hmac.New(sha256.New, f.key[:])
	fmt.Fprintf(mac, "%d:%s", len(route), route)
	mac.Write(identity[:])
	mac.Sum(n[:0])
	return n
}

// Open is [Store]'s.
func (f *Folder) Open(_ context.Context, route string, identity [sha256.Size]byte, epoch uint64) (Log, Loaded, error) {
	l, loaded, err := f.Stream(route, identity, epoch)
	if err != nil {
		return nil, Loaded{}, err
	}
	return l, loaded, nil
}

// Holder is none: there is one process.
func (f *Folder) Holder(context.Context, string, [sha256.Size]byte) (string, error) { return "", nil }

// Stream opens a stream of route, and closes what has it open. What is loaded is of older epochs than the stream's new
// one, which [FolderLog.Epoch] is: epoch, or one more than the newest that was used.
func (f *Folder) Stream(route string, identity [sha256.Size]byte, epoch uint64) (*FolderLog, Loaded, error) {
	n := f.nameOf(route, identity)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, Loaded{}, ErrClosed
	}
	e := f.streams[n]
	if e == nil {
		epoch = max(epoch, f.gone+1) // it may have been forgotten, and the clock set back since
		f.number++
		e = &entry{name: n, number: f.number, born: epoch}
		f.streams[n] = e
	}
	loaded, err := f.load(e)
	if err != nil {
		f.Log.Warn("a stream's history cannot be read and begins anew", "err", plain(err))
		f.Stats.Damaged.Add(1)
		f.drop(e)
		f.owe(e)
		f.mark()
		e.born = max(epoch, e.epoch+1)
		loaded = Loaded{Epoch: e.epoch, Damaged: true}
	}
	e.epoch = max(epoch, e.epoch+1)
	e.idle = time.Time{}
	if e.log != nil {
		e.log.closed, e.open = true, nil
	}
	delete(f.lastSegment().defined, e) // so that its epoch is written before anything else of it
	e.log = &FolderLog{folder: f, entry: e, Epoch: e.epoch, loaded: loaded}
	e.log.loaded.Events = nil
	return e.log, loaded, nil
}

// drop forgets what was written of e.
func (f *Folder) drop(e *entry) {
	for _, k := range append(e.events, e.keyed...) {
		k.segment.live -= int64(k.size)
	}
	e.state.free()
	e.past.free()
	e.events, e.keyed, e.state, e.past = nil, nil, ref{}, ref{}
}

func (r ref) free() {
	if r.segment != nil {
		r.segment.live -= int64(r.size)
	}
}

// reader reads records, and keeps the files that it opens until it is closed.
type reader struct {
	folder *Folder
	files  map[*segment]*os.File
}

func (r *reader) close() {
	for _, file := range r.files {
		file.Close()
	}
}

func (r *reader) read(at ref) (record, error) {
	file := r.files[at.segment]
	if file == nil {
		var err error
		if file, err = os.Open(r.folder.path(segmentName(at.segment.number))); err != nil {
			return record{}, err
		}
		r.files[at.segment] = file
	}
	data := make([]byte, at.size)
	if _, err := file.ReadAt(data, int64(at.at)); err != nil {
		return record{}, err
	}
	return readRecord(data)
}

// load reads what is known of e.
func (f *Folder) load(e *entry) (l Loaded, err error) {
	l = Loaded{Epoch: e.epoch, Damaged: e.owes || e.lacks && !e.opened, Older: len(e.keyed)}
	r := reader{f, map[*segment]*os.File{}}
	defer r.close()
	for _, k := range append(e.keyed[:len(e.keyed):len(e.keyed)], e.events...) {
		rec, err := r.read(k.ref)
		if err != nil {
			return l, err
		}
		event, _, ok := rec.event()
		if !ok {
			return l, errDamage
		}
		l.Events = append(l.Events, event)
	}
	if l.State, err = r.blob(e.state); err != nil {
		return l, err
	}
	l.Past, err = r.blob(e.past)
	e.opened = true
	return l, err
}

func (r *reader) blob(at ref) ([]byte, error) {
	if at.segment == nil {
		return nil, nil
	}
	rec, err := r.read(at)
	if err != nil {
		return nil, err
	}
	_, blob, ok := rec.blob()
	if !ok {
		return nil, errDamage
	}
	return blob, nil
}
