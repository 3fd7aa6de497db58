package stream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// sampling is a source that emits the number of a service as it is when it looks, which it does each second: what the number was while nobody looked is no
// event. So it goes on from any place, and what was lost of what it had emitted before nobody can tell by what comes then.
type sampling struct {
	service *service
	last    int
}

func (*sampling) History() bool { return false }

func (s *sampling) Save() []byte { return []byte(strconv.Itoa(s.last)) }

func (s *sampling) Restore(saved, _ []byte) (err error) {
	s.last, err = strconv.Atoi(string(saved))
	return err
}

func (s *sampling) Connect(context.Context) (upstream.Conn, error) { return s, nil }

func (*sampling) Resumed() bool { return true }

func (*sampling) Send(context.Context, translate.Message) error { return upstream.ErrNoUplink }

func (s *sampling) Run(ctx context.Context, emit func([]translate.Message) error) error {
	for {
		if n := s.service.now(); n > s.last {
			s.last = n
			if err := emit([]translate.Message{{Data: []byte(strconv.Itoa(n))}}); err != nil {
				return err
			}
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// fill has writing to the files of dir that are open fail, as where the disk is full, or not any more.
func fill(t *testing.T, dir string, full bool) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		path, err := os.Readlink("/proc/self/fd/" + one.Name())
		if err != nil || filepath.Dir(path) != dir || !strings.HasPrefix(filepath.Base(path), "0") {
			continue
		}
		how := unix.O_RDWR
		if full {
			how = unix.O_RDONLY
		}
		other, err := unix.Open(path, how|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, _ := strconv.Atoi(one.Name())
		if err := unix.Dup3(other, fd, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(other)
	}
}

// sidecars are processes that follow each other, with one folder, and the clients of their streams.
type sidecars struct {
	t       *testing.T
	dir     string
	sv      *service
	s       *Streams
	over    func()
	full    bool
	filled  bool // it was, in this process
	streams [3]sampled
	clients [6]guest
}

// sampled is what is known of a stream.
type sampled struct {
	given  map[int]bool // to any client
	owing  bool         // it may lack something
	losses int          // how often it was opened while it did
}

// guest is a client that comes and goes.
type guest struct {
	key  int
	seat *Seat
	at   uint64
	id   string
	last int
	gap  bool
	gaps int // that it was told of
	most int // that there may have been up to when it came
}

func (p *sidecars) start() {
	f, err := history.Open(history.Settings{Dir: p.dir, Sync: -1, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }() // ends with over
	p.s = NewStreams(Policy{Bounds: Bounds{Events: 1000}, Log: slog.New(slog.DiscardHandler), History: f, Route: "r", Linger: 20 * time.Second, All: new(Limit), Own: new(Limit)})
	p.s.source = func(*upstream.Request, *slog.Logger) upstream.Source { return &sampling{service: p.sv} }
	p.full = false
	p.over = func() {
		p.s.Close()
		stop()
		<-ended
		f.Close()
	}
	if p.filled {
		p.owe()
	}
	p.filled = false
}

// owe notes that every stream may lack something.
func (p *sidecars) owe() {
	for i := range p.streams {
		p.streams[i].owing = true
	}
}

// fills has the disk be full, or not any more.
func (p *sidecars) fills() {
	p.full, p.filled = !p.full, true
	fill(p.t, p.dir, p.full)
	p.owe()
}

// again ends the process and starts another one. killed: nothing is written any more.
func (p *sidecars) again(killed bool) {
	p.read()
	if killed {
		left := filepath.Join(p.t.TempDir(), "x")
		if err := os.CopyFS(left, os.DirFS(p.dir)); err != nil {
			p.t.Fatal(err)
		}
		p.over()
		p.dir = left
	}
	for i := range p.clients {
		p.leave(&p.clients[i])
	}
	if !killed {
		p.over()
	}
	p.start()
}

func (p *sidecars) leave(c *guest) {
	if c.seat != nil {
		c.seat.Leave()
		c.seat = nil
	}
}

// come has a client come back with its last id.
func (p *sidecars) come(c *guest) {
	c.seat = join(p.t, p.s, strconv.Itoa(c.key))
	if st := &p.streams[c.key]; c.seat.Opened && st.owing {
		st.losses++
		st.owing = p.full
	}
	c.at, c.most = c.seat.Start(), p.streams[c.key].losses
	at, ok := c.seat.Ring.Find(c.id)
	switch {
	case c.id == "":
	case ok:
		c.at = at
	default:
		c.gap = true
		c.gaps++
		events, next, _, _ := c.seat.Ring.After(nil, c.at)
		c.id = c.seat.Ring.Position(next - uint64(len(events))) // the gap's
	}
}

// read has all clients read what there is for them.
func (p *sidecars) read() {
	synctest.Wait()
	for i := range p.clients {
		for c := &p.clients[i]; c.seat != nil; {
			events, next, missed, _ := c.seat.Ring.After(nil, c.at)
			if missed > 0 {
				p.t.Fatalf("%d are missed of what was let go of", missed)
			}
			for _, e := range events {
				p.take(c, string(e))
			}
			if next == c.at || len(events) == 0 {
				break
			}
			c.at = next
		}
	}
}

// take has a client look at an event.
func (p *sidecars) take(c *guest, text string) {
	_, c.id, _ = strings.Cut(text, "id: ")
	c.id, _, _ = strings.Cut(c.id, "\n")
	if strings.HasPrefix(text, "event: stream.gap") {
		c.gap = true
		if c.gaps++; c.gaps > c.most {
			p.t.Fatalf("told of %d gaps, where there are %d to tell of at most", c.gaps, c.most)
		}
		return
	}
	_, data, _ := strings.Cut(text, "data: ")
	data, _, _ = strings.Cut(data, "\n")
	n, err := strconv.Atoi(data)
	if err != nil || n <= c.last && !c.gap {
		p.t.Fatalf("%q after %d", text, c.last)
	}
	given := p.streams[c.key].given
	for lost := c.last + 1; lost < n && c.last > 0 && !c.gap; lost++ {
		if given[lost] {
			p.t.Fatalf("%d was given to another client, and this one gets %d after %d", lost, n, c.last)
		}
	}
	given[n] = true
	c.last, c.gap = n, false
}

// TestFullDisks: whatever happens to the disk and to processes, what one client was given of a stream the others get too, or are told, once. Of every fourth
// the disk is never full.
func TestFullDisks(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fullDisks(t, rand.New(rand.NewPCG(seed, 7)), seed%4 > 0) })
		})
	}
}

func fullDisks(t *testing.T, random *rand.Rand, fills bool) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &sidecars{t: t, dir: dir, sv: &service{begun: time.Now()}}
	for i := range p.streams {
		p.streams[i].given = map[int]bool{}
	}
	for i := range p.clients {
		p.clients[i].key = i % len(p.streams)
	}
	p.start()
	for range 60 {
		c := &p.clients[random.IntN(len(p.clients))]
		switch what := random.IntN(12); {
		case what < 5 && c.seat == nil:
			p.come(c)
		case what < 7:
			p.leave(c)
		case what < 9 && fills:
			p.fills()
		case what == 9:
			p.again(random.IntN(2) == 0)
		default:
			time.Sleep(time.Duration(random.IntN(40_000)) * time.Millisecond)
		}
		p.read()
	}
	for i := range p.clients {
		p.leave(&p.clients[i])
	}
	p.over()
}
