package history

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// open opens dir with segments of size bytes.
func open(t testing.TB, dir string, size int64) *Folder {
	t.Helper()
	f, err := Open(Settings{Dir: dir, Sync: -1, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f.segmentSize = size
	return f
}

// kill leaves a folder as a killed process does.
func (f *Folder) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.release()
}

// tidied does what Run would have done.
func (f *Folder) tidied(t testing.TB) {
	for f.rewrite(t.Context()) {
	}
	if err := f.sync(false); err != nil {
		t.Fatal(err)
	}
}

func identity(n int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, n)) }

// model is a stream as it should be, and the stream.
type model struct {
	log    *FolderLog
	seq    uint64
	events []Event
	keyed  map[string]Event // newest of each key
	state  []byte
	past   []byte
	kept   int
}

func (m *model) Take([]Event, []Event, []byte, bool) {}
func (m *model) Since(Position) ([]Event, []byte)    { return nil, nil }
func (m *model) Older() []Event                      { return nil }
func (m *model) Follows()                            {}
func (m *model) Retry(uint64)                        {}

func lead(t *testing.T, l Log, f Follower) Term {
	t.Helper()
	term, err := l.Lead(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func (m *model) TermOver() {}

func (m *model) Holds(p Position, key string) bool { return m.keyed[key].Position == p }

func (m *model) append(t testing.TB, random *rand.Rand, n int) {
	t.Helper()
	b := Batch{Kept: m.kept}
	for range n {
		m.seq++
		e := Event{Position: Position{m.log.Epoch, m.seq}, At: time.UnixMilli(random.Int64N(1 << 40)), Data: []byte(strings.Repeat("x", random.IntN(300)))}
		if random.IntN(3) == 0 {
			e.ID = fmt.Sprint("id", random.IntN(100))
		}
		if random.IntN(4) == 0 {
			e.Key = fmt.Sprint("key", random.IntN(5))
			m.keyed[e.Key] = e
		}
		b.Events = append(b.Events, e)
	}
	if random.IntN(2) == 0 {
		b.State = fmt.Append(nil, "state", random.IntN(1000))
		m.state = b.State
	}
	if random.IntN(5) == 0 {
		b.Past = bytes.Repeat([]byte("p"), 1+random.IntN(500))
		m.past = b.Past
	}
	m.events = append(m.events, b.Events...)
	if err := m.log.Append(b); err != nil {
		t.Fatal(err)
	}
	if over := len(m.events) - m.kept; over > 0 {
		m.events = m.events[over:]
	}
}

// check holds what was loaded against the model. A folder may give back more at the old end.
func (m *model) check(t testing.TB, l Loaded) {
	t.Helper()
	got := l.Events[l.Older:]
	if len(got) < len(m.events) {
		t.Fatalf("%d events of %d", len(got), len(m.events))
	}
	if got = got[len(got)-len(m.events):]; !slices.EqualFunc(got, m.events, sameEvent) {
		t.Fatalf("got  %v\nwant %v", got, m.events)
	}
	for i, e := range l.Events[l.Older:] {
		if rest := l.Events[l.Older:]; i > 0 && rest[i-1].Epoch == e.Epoch && rest[i-1].Seq+1 != e.Seq {
			t.Fatalf("a hole before %v", e.Position)
		}
	}
	for key, want := range m.keyed {
		if !slices.ContainsFunc(l.Events, func(e Event) bool { return sameEvent(e, want) }) {
			t.Fatalf("the newest event of %s is missing: %v", key, want.Position)
		}
	}
	if !bytes.Equal(l.State, m.state) || !bytes.Equal(l.Past, m.past) {
		t.Fatalf("state %q, want %q; past of %d bytes, want %d", l.State, m.state, len(l.Past), len(m.past))
	}
}

func sameEvent(a, b Event) bool {
	return a.Position == b.Position && a.ID == b.ID && a.Key == b.Key && a.At.Equal(b.At) && bytes.Equal(a.Data, b.Data)
}

// TestRandom does at random what streams do with a folder, kills it, tidies it up and holds it against a model.
func TestRandom(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		f := open(t, dir, 4<<10)
		models := make([]*model, 1+random.IntN(6))
		for i := range models {
			models[i] = &model{keyed: map[string]Event{}, kept: 1 + random.IntN(30)}
		}
		for step := range 400 {
			i := random.IntN(len(models))
			m := models[i]
			if m.log == nil {
				log, loaded, err := f.Stream("r", identity(i), uint64(1+step))
				if err != nil || loaded.Damaged {
					t.Fatalf("seed %d: %v, damaged %v", seed, err, loaded.Damaged)
				}
				if last := len(m.events); last > 0 && (loaded.Epoch != m.events[last-1].Epoch && loaded.Epoch < m.events[last-1].Epoch || log.Epoch <= loaded.Epoch) {
					t.Fatalf("seed %d: epoch %d after %d", seed, log.Epoch, loaded.Epoch)
				}
				m.check(t, loaded)
				m.log, m.seq = log, 0
				lead(t, log, m)
			}
			switch random.IntN(20) {
			case 0:
				m.log.Close()
				m.log = nil
			case 1:
				f.tidied(t)
			case 2:
				f.kill()
				f = open(t, dir, 4<<10)
				for _, m := range models {
					m.log = nil
				}
			default:
				m.append(t, random, 1+random.IntN(4))
			}
		}
		f.tidied(t)
		var live, size int64
		for _, s := range f.segments {
			if live, size = live+s.live, size+s.size; s.live < 0 {
				t.Fatalf("seed %d: %d bytes of a segment are needed", seed, s.live)
			}
		}
		if size > 2*live+4*f.segmentSize {
			t.Errorf("seed %d: %d bytes for %d that are needed", seed, size, live)
		}
		f.kill()
	}
}

// written is a folder with one segment of batches of three events with a state, and what they were.
func written(t testing.TB, batches int) (dir string, m *model, data []byte) {
	dir = t.TempDir()
	f := open(t, dir, 1<<20)
	m = &model{keyed: map[string]Event{}, kept: 1000}
	var err error
	if m.log, _, err = f.Stream("r", identity(1), 7); err != nil {
		t.Fatal(err)
	}
	for i := range batches {
		var b Batch
		for range 3 {
			m.seq++
			b.Events = append(b.Events, Event{Position: Position{7, m.seq}, Data: fmt.Append(nil, "data of ", m.seq)})
		}
		b.State, b.Kept = fmt.Append(nil, i), 1000
		if err := m.log.Append(b); err != nil {
			t.Fatal(err)
		}
		m.events = append(m.events, b.Events...)
	}
	f.kill()
	if data, err = os.ReadFile(filepath.Join(dir, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	return dir, m, data
}

// TestCutAnywhere: a process that is killed while it writes leaves whole batches, and nothing is called damaged.
func TestCutAnywhere(t *testing.T) {
	dir, m, data := written(t, 4)
	for cut := range len(data) {
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, dir, 1<<20)
		log, l, err := f.Stream("r", identity(1), 9)
		if err != nil || l.Damaged {
			t.Fatalf("cut at %d: %v, damaged %v", cut, err, l.Damaged)
		}
		if n := len(l.Events); n%3 != 0 || !slices.EqualFunc(l.Events, m.events[:n], sameEvent) {
			t.Fatalf("cut at %d: %v", cut, l.Events)
		}
		if want := len(l.Events)/3 - 1; want >= 0 && string(l.State) != fmt.Sprint(want) || want < 0 && l.State != nil {
			t.Fatalf("cut at %d: %d events with the state %s", cut, len(l.Events), l.State)
		}
		if err := log.Append(Batch{Events: []Event{{Position: Position{log.Epoch, 1}}}, Kept: 1}); err != nil {
			t.Fatal(err)
		}
		f.kill()
		for n := uint32(2); os.Remove(filepath.Join(dir, segmentName(n))) == nil; n++ {
		}
	}
}

// TestDamage: a byte that has changed is found, and what it was of is neither served nor passed over in silence.
func TestDamage(t *testing.T) {
	dir, m, data := written(t, 4)
	for at := range data {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x41
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, dir, 1<<20)
		_, l, err := f.Stream("r", identity(1), 9)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(l.Events); !slices.EqualFunc(l.Events, m.events[:n], sameEvent) || n == len(m.events) {
			t.Fatalf("byte %d: %v", at, l.Events)
		}
		// A length that reaches beyond the end looks like a record that was being written.
		if !l.Damaged && f.Stats.Damaged.Load() == 0 && !lengthAt(data, at) {
			t.Fatalf("byte %d: %d events, and nothing is said", at, len(l.Events))
		}
		f.kill()
		for n := uint32(2); os.Remove(filepath.Join(dir, segmentName(n))) == nil; n++ {
		}
	}
}

// lengthAt reports whether the byte is of a record's length.
func lengthAt(data []byte, at int) bool {
	for pos := len(segmentMagic); pos < len(data); {
		r, err := readRecord(data[pos:])
		if err != nil {
			return false
		}
		if at >= pos+4 && at < pos+8 {
			return true
		}
		pos += r.size
	}
	return false
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	if _, err := Open(Settings{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	open(t, dir, 1<<20).kill()
}

// TestFullDisk: what cannot be written is not half written, is appended later, and is said if it never is.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	m := &model{keyed: map[string]Event{}, kept: 10}
	var err error
	if m.log, _, err = f.Stream("r", identity(1), 5); err != nil {
		t.Fatal(err)
	}
	event := func(seq uint64) Event { return Event{Position: Position{5, seq}, Data: []byte("x")} }
	if err := m.log.Append(Batch{Events: []Event{event(1)}, Kept: 10}); err != nil {
		t.Fatal(err)
	}
	whole := f.current
	if f.current, err = os.Open(whole.Name()); err != nil { // which cannot be written
		t.Fatal(err)
	}
	if err := m.log.Append(Batch{Events: []Event{event(2)}, Kept: 10}); err == nil || !f.Stats.Failing.Load() {
		t.Error("a full disk is not noticed")
	}
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "x"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if died := open(t, filepath.Join(copied, "x"), 1<<20); true { // the process ended now
		if _, l, err := died.Stream("r", identity(1), 6); err != nil || !l.Damaged || len(l.Events) != 1 {
			t.Errorf("%+v, %v", l, err)
		}
		died.kill()
	}
	f.current.Close()
	f.current = whole
	if err := m.log.Append(Batch{Events: []Event{event(2), event(3)}, Kept: 10}); !errors.Is(err, errFailing) {
		t.Errorf("it is tried again at once: %v", err)
	}
	f.tried = time.Time{}
	if err := m.log.Append(Batch{Events: []Event{event(2), event(3)}, Kept: 10}); err != nil || f.Stats.Failing.Load() {
		t.Error(err)
	}
	f.kill()
	f = open(t, dir, 1<<20)
	if _, l, err := f.Stream("r", identity(1), 6); err != nil || l.Damaged || len(l.Events) != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	f.kill()
}

// TestSkipped: events that could never be written leave a hole, and what is before it is not taken for what came before.
func TestSkipped(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	log, _, err := f.Stream("r", identity(1), 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, seqs := range [][]uint64{{1, 2}, {5, 6}} {
		var b Batch
		for _, seq := range seqs {
			b.Events = append(b.Events, Event{Position: Position{5, seq}})
		}
		b.Kept = 10
		if err := log.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Append(Batch{Events: []Event{{Position: Position{5, 6}}}, Kept: 10}); !errors.Is(err, errOrder) {
		t.Errorf("an event twice: %v", err)
	}
	f.kill()
	f = open(t, dir, 1<<20)
	if _, l, _ := f.Stream("r", identity(1), 6); len(l.Events) != 2 || l.Events[0].Seq != 5 {
		t.Errorf("%+v", l.Events)
	}
	f.kill()
}

// TestStateAfterLostEvents: a power failure may take the end of one file and leave the next. What was written after events that are no
// more is not gone on from, and it is said.
func TestStateAfterLostEvents(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 300)
	log, _, err := f.Stream("r", identity(1), 5)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64 // of the first file, after each batch
	for seq := uint64(1); len(f.segments) < 2; seq++ {
		if err := log.Append(Batch{Events: []Event{{Position: Position{5, seq}, Data: []byte("x")}}, State: []byte("old"), Kept: 100}); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, f.segments[0].size)
	}
	f.kill()
	os.Remove(filepath.Join(dir, segmentName(2)))
	f = open(t, dir, 300) // which begins the second file anew
	if log, _, err = f.Stream("r", identity(1), 6); err != nil {
		t.Fatal(err)
	}
	if err := log.Append(Batch{State: []byte("new"), Past: []byte("all"), Kept: 100}); err != nil {
		t.Fatal(err)
	}
	f.kill()
	if err := os.Truncate(filepath.Join(dir, segmentName(1)), ends[0]); err != nil {
		t.Fatal(err)
	}
	f = open(t, dir, 300)
	defer f.kill()
	if _, l, err := f.Stream("r", identity(1), 7); err != nil || len(l.Events) != 1 || l.State != nil || l.Past != nil || !l.Damaged {
		t.Errorf("%+v, %v", l, err)
	}
	for _, s := range f.segments {
		if s.live < 0 {
			t.Errorf("%d bytes are needed", s.live)
		}
	}
}

// TestManyStartsLeaveFewFiles: each process begins a file.
func TestManyStartsLeaveFewFiles(t *testing.T) {
	dir := t.TempDir()
	for start := range uint64(40) {
		f := open(t, dir, 1<<20)
		log, _, err := f.Stream("r", identity(1), start+1)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Append(Batch{Events: []Event{{Position: Position{log.Epoch, 1}}}, Kept: 5}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }() // ends with stop
		for end := time.Now().Add(time.Minute); f.Report().Files > 7 && time.Now().Before(end); {
			runtime.Gosched()
		}
		stop()
		<-done
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 3+8 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestCrashLoop: a process that lives for a moment only has the files tidied up of what the ones before had let go of.
func TestCrashLoop(t *testing.T) {
	dir := t.TempDir()
	for start := range uint64(30) {
		f := open(t, dir, 1<<20)
		for f.rewrite(t.Context()) { // as Run does when it begins: all that is found is needed, as far as is known
		}
		log, _, err := f.Stream("r", identity(1), start+1)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(100) {
			if err := log.Append(Batch{Epoch: log.Epoch, Events: []Event{{Position: Position{log.Epoch, seq + 1}, Data: make([]byte, 50)}}, Kept: 10}); err != nil {
				t.Fatal(err)
			}
		}
		if start > 0 && len(f.untidy) == 0 {
			t.Fatal("nobody tidies up")
		}
		for f.rewrite(t.Context()) {
		}
		if n := f.Report().Files; n > 3 {
			t.Fatalf("%d files", n)
		}
		f.sync(false) // which unlinks them
		f.kill()
	}
}

// TestForgotten: a stream that has been closed for the TTL is no more, also when it is made again, and the folder is read again.
func TestForgotten(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	m := &model{keyed: map[string]Event{}, kept: 10}
	var err error
	if m.log, _, err = f.Stream("r", identity(1), 5); err != nil {
		t.Fatal(err)
	}
	m.append(t, rand.New(rand.NewPCG(1, 1)), 3)
	m.log.Close()
	f.sweep(time.Now().Add(time.Minute))
	if len(f.streams) != 1 {
		t.Error("it is forgotten too early")
	}
	f.sweep(time.Now().Add(2 * time.Hour))
	if len(f.streams) != 0 || f.segments[0].live != 0 {
		t.Errorf("%d streams, %d bytes", len(f.streams), f.segments[0].live)
	}
	log, l, err := f.Stream("r", identity(1), 6)
	if err != nil || len(l.Events) != 0 || l.State != nil {
		t.Errorf("%+v, %v", l, err)
	}
	if err := log.Append(Batch{Events: []Event{{Position: Position{log.Epoch, 1}}}, Kept: 10}); err != nil {
		t.Fatal(err)
	}
	f.kill()
	f = open(t, dir, 1<<20)
	if _, l, err = f.Stream("r", identity(1), 7); err != nil || len(l.Events) != 1 || l.Events[0].Epoch != log.Epoch {
		t.Errorf("%+v, %v", l, err)
	}
	f.kill()
}

// TestNamesTellNothing: neither names nor contents hold what identities are made of, and two folders name one stream differently.
func TestNamesTellNothing(t *testing.T) {
	a, b := open(t, t.TempDir(), 1<<20), open(t, t.TempDir(), 1<<20)
	defer a.kill()
	defer b.kill()
	if a.nameOf("r", identity(1)) == b.nameOf("r", identity(1)) || a.nameOf("r", identity(1)) == a.nameOf("s", identity(1)) {
		t.Error("names")
	}
	files, err := os.ReadDir(a.Dir)
	if err != nil || len(files) != 4 {
		t.Errorf("%v, %v", files, err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file.Name(), info.Mode(), err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	_, _, data := written(f, 2)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		for len(data) > 0 {
			r, err := readRecord(data)
			if err != nil {
				return
			}
			r.define()
			r.event()
			data = data[r.size:]
		}
	})
}

// A stream that was forgotten, and is opened again by a clock that was set back since, is the new one after a restart, also where files still hold the old one.
func TestForgottenByAnEarlierClock(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	say := func(epoch uint64, state string, texts ...string) {
		l, _, err := f.Stream("r", identity(1), epoch)
		if err != nil {
			t.Fatal(err)
		}
		b := Batch{State: []byte(state), Kept: len(texts)}
		for i, text := range texts {
			b.Events = append(b.Events, Event{Position: Position{l.Epoch, uint64(i + 1)}, At: time.UnixMilli(1), Data: []byte(text)})
		}
		if err := l.Append(b); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	say(1000, "old", "1", "2")
	f.sweep(time.Now().Add(2 * time.Hour))
	say(500, "new", "8", "9")
	for _, restart := range []string{"a kill", "another"} {
		f.kill()
		f = open(t, dir, 1<<20)
		l, loaded, err := f.Stream("r", identity(1), 600)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range loaded.Events {
			got = append(got, string(e.Data))
		}
		if !slices.Equal(got, []string{"8", "9"}) || string(loaded.State) != "new" || loaded.Damaged {
			t.Errorf("after %s: %q, with the state %q, damaged %v", restart, got, loaded.State, loaded.Damaged)
		}
		l.Close()
	}
	f.kill()
}

// TestDamageOnce: a file that is damaged is told of by each stream once, however soon the process ends that has found it, and however often others follow.
func TestDamageOnce(t *testing.T) {
	for _, last := range []bool{false, true} { // where the damage is
		dir := t.TempDir()
		f := open(t, dir, 1<<20)
		for n := range 2 {
			l, _, err := f.Stream("r", identity(n), 5)
			if err != nil {
				t.Fatal(err)
			}
			for seq := range uint64(9) {
				if err := l.Append(Batch{Events: []Event{{Position: Position{5, seq + 1}, Data: []byte("x")}}, Kept: 9}); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.kill()
		path := filepath.Join(dir, segmentName(1))
		if !last {
			open(t, dir, 1<<20).kill()
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-3] ^= 1
		os.WriteFile(path, data, 0o600)
		open(t, dir, 1<<20).kill() // nobody comes to it
		for process := range 3 {
			f = open(t, dir, 1<<20)
			l, loaded, err := f.Stream("r", identity(0), 6)
			if err != nil || loaded.Damaged != (process == 0) {
				t.Errorf("last %v, process %d: %v, damaged %v", last, process, err, loaded.Damaged)
			}
			l.Append(Batch{Events: []Event{{Position: Position{l.Epoch, 1}, Data: []byte("x")}}, Kept: 10})
			f.tidied(t)
			f.kill()
		}
		f = open(t, dir, 1<<20)
		if _, loaded, err := f.Stream("r", identity(1), 6); err != nil || !loaded.Damaged || len(loaded.Events) != 8 {
			t.Errorf("last %v: %v, %+v", last, err, loaded)
		}
		f.kill()
	}
}

// owing is a stream that keeps again what it owes.
type owing struct {
	model
	owed Batch
}

func (o *owing) Retry(uint64) { o.log.Append(o.owed) }

// TestOwed: what was given to clients and could not be written is known of each stream, until it is written or told of, whatever others have written meanwhile
// and however soon the next process ends.
func TestOwed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	f := open(t, dir, 1<<20)
	event := func(epoch, seq uint64) Batch {
		return Batch{Events: []Event{{Position: Position{epoch, seq}, Data: []byte("x")}}, Kept: 10}
	}
	var streams [3]owing
	for i := range streams {
		l, _, err := f.Stream("r", identity(i), 5)
		if err != nil {
			t.Fatal(err)
		}
		streams[i].log, streams[i].owed = l, event(5, 2)
		lead(t, l, &streams[i])
		if err := l.Append(event(5, 1)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := f.current, error(nil)
	if f.current, err = os.Open(whole.Name()); err != nil { // which cannot be written
		t.Fatal(err)
	}
	for i := range 2 {
		if streams[i].log.Append(event(5, 2)) == nil {
			t.Error("a full disk is not noticed")
		}
	}
	f.current.Close()
	f.current, f.tried = whole, time.Time{}
	if err := streams[2].log.Append(event(5, 2)); err != nil {
		t.Fatal(err)
	}
	damaged := func(f *Folder, n int) bool {
		t.Helper()
		l, loaded, err := f.Stream("r", identity(n), 6)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return loaded.Damaged
	}
	killed := func() (dir string) { // what the process leaves if it is killed now
		dir = filepath.Join(t.TempDir(), "x")
		if err := os.CopyFS(dir, os.DirFS(f.Dir)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	left := killed()
	for range 2 { // the first of which nobody comes to
		died := open(t, left, 1<<20)
		died.kill()
	}
	died := open(t, left, 200)
	if !damaged(died, 0) || !damaged(died, 1) {
		t.Error("another stream was written, and what these owe is forgotten")
	}
	for _, n := range []int{0, 2} {
		l, _, _ := died.Stream("r", identity(n), 7)
		for seq := range uint64(50) { // it is told of, and files come and go
			b := event(l.Epoch, seq+1)
			if b.Kept = 1; l.Append(b) != nil {
				t.Fatal("it is not written")
			}
			died.tidied(t)
		}
	}
	died.kill()
	if _, err := os.Stat(filepath.Join(left, segmentName(2))); err == nil {
		t.Error("the file that says so first is still there")
	}
	died = open(t, left, 1<<20)
	if damaged(died, 0) || !damaged(died, 1) {
		t.Error("one that was told of is to be told again, or one that was not is not")
	}
	died.kill()

	streams[0].log.Close()
	if !damaged(f, 0) {
		t.Error("it is opened again in the same process, and nothing is said")
	}
	f.collect()
	if damaged(f, 1) || !damaged(f, 0) {
		t.Error("what is owed is not collected")
	}
	f.kill()
}
