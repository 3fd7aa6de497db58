package merge

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// counter is a source that emits the numbers of a service, of which there is one every so long, and goes on after the last that it has emitted.
type counter struct {
	begun time.Time
	every time.Duration
	next  uint64
}

func (*counter) History() bool { return false }

func (c *counter) Save() []byte { return binary.BigEndian.AppendUint64(nil, c.next) }

func (c *counter) Restore(saved, _ []byte) error {
	c.next = binary.BigEndian.Uint64(saved)
	return nil
}

func (c *counter) Connect(context.Context) (upstream.Conn, error) {
	if c.next == 0 {
		c.next = uint64(time.Since(c.begun)/c.every) + 1
	}
	return c, nil
}

func (c *counter) Resumed() bool { return true }

func (c *counter) Send(context.Context, translate.Message) error { return upstream.ErrNoUplink }

func (c *counter) Run(ctx context.Context, emit func([]translate.Message) error) error {
	for {
		t := time.NewTimer(time.Until(c.begun.Add(time.Duration(c.next) * c.every)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		c.next++
		if err := emit([]translate.Message{{Data: strconv.AppendUint(nil, c.next-1, 10)}}); err != nil {
			return err
		}
	}
}

// process is a sidecar with a merged route and the routes of its parts, whose histories are in dir.
type process struct {
	dir    string
	merged *stream.Streams
	parts  []*stream.Streams
	rt     *upstream.Route
	plan   Plan
	folder *history.Folder
}

func begin(t *testing.T, dir string, begun time.Time, age time.Duration) *process {
	f, err := history.Open(history.Settings{Dir: dir, Sync: -1, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := upstream.Compile(upstream.SourceSettings{From: "routes:"})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, rt: rt, folder: f, plan: Plan{Events: 1000}}
	streams := func(route string, start int, age time.Duration) *stream.Streams {
		s := policy(stream.Bounds{Events: 1000, Start: start}, age)
		s.History, s.Route, s.Linger = f, route, 20*time.Second
		return stream.NewStreams(s)
	}
	for i := range 2 {
		s := streams(fmt.Sprint(i), 0, age)
		p.parts = append(p.parts, s)
		p.plan.Parts = append(p.plan.Parts, Part{Label: fmt.Sprint(i), About: fmt.Sprintf(`"route":"%d"`, i), Streams: s, Request: rt.Merged([32]byte{byte(i)}, "part", func(*slog.Logger) upstream.Source {
			return &counter{begun: begun, every: time.Duration(i+1) * time.Second}
		}, nil)})
	}
	p.merged = streams("merged", 0, 0)
	return p
}

func (p *process) end() {
	p.merged.Close()
	for _, s := range p.parts {
		s.Close()
	}
	p.folder.Close()
}

// TestMergedRestarts: of parts that go on where they stopped nothing is missing, and nothing comes twice, however often processes end and parts reach their age.
func TestMergedRestarts(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { mergedRestarts(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func mergedRestarts(t *testing.T, random *rand.Rand) {
	begun, age := time.Now(), time.Duration(random.IntN(2))*30*time.Second
	p := begin(t, t.TempDir(), begun, age)
	id, last := "", [2]int{}
	for range 12 {
		req := p.rt.Merged([32]byte{0xff}, "merged", func(log *slog.Logger) upstream.Source { return New(p.plan, log) }, nil)
		seat, err := p.merged.Join(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		cursor, known := seat.Ring.Find(id)
		if !known && id != "" {
			t.Fatalf("%s is not known", id)
		} else if !known {
			cursor = seat.Start()
		}
		for range random.IntN(6) {
			time.Sleep(time.Duration(random.IntN(20_000)) * time.Millisecond)
			synctest.Wait()
			for {
				events, next, missed, _ := seat.Ring.After(nil, cursor)
				if missed > 0 {
					t.Fatalf("%d are missed", missed)
				}
				for _, e := range events {
					id = look(t, string(e), &last)
				}
				if cursor = next; len(events) == 0 {
					break
				}
			}
		}
		seat.Leave()
		switch random.IntN(3) {
		case 0:
			time.Sleep(time.Duration(random.IntN(60_000)) * time.Millisecond)
		case 1: // it is killed
			left := filepath.Join(t.TempDir(), "x")
			if err := os.CopyFS(left, os.DirFS(p.dir)); err != nil {
				t.Fatal(err)
			}
			p.end()
			p = begin(t, left, begun, age)
		default:
			p.end()
			time.Sleep(time.Duration(random.IntN(30_000)) * time.Millisecond)
			p = begin(t, p.dir, begun, age)
		}
	}
	p.end()
	if last[0] == 0 || last[1] == 0 {
		t.Errorf("it has got up to %v", last)
	}
}

// look holds an event against what came before it, and returns its id.
func look(t *testing.T, text string, last *[2]int) (id string) {
	t.Helper()
	name, rest, _ := strings.Cut(strings.TrimPrefix(text, "event: "), "\n")
	data, rest, _ := strings.Cut(strings.TrimPrefix(rest, "data: "), "\n")
	part, err := strconv.Atoi(name)
	n, err2 := strconv.Atoi(data)
	if err != nil || err2 != nil || last[part] != 0 && n != last[part]+1 {
		t.Fatalf("%q after %v", text, last)
	}
	last[part] = n
	return strings.TrimSuffix(strings.TrimPrefix(rest, "id: "), "\n\n")
}
