package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/translate"
)

// numbers is a service of numbers, one each 100 ms, that can be asked for what comes after one: as events, as lines, and page by page. It fails in every way.
type numbers struct {
	begun time.Time

	mu     sync.Mutex // guards random
	random *rand.Rand
}

func (s *numbers) now() int { return int(time.Since(s.begun) / (100 * time.Millisecond)) }

func (s *numbers) chance(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// cut is an answer that is cut after so many bytes.
type cut struct {
	w    http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.w.Write(p[:n])
	if c.left -= n; n < len(p) {
		http.NewResponseController(c.w).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

func (s *numbers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pause := func(d time.Duration) { sleep(r.Context(), d) }
	switch s.chance(8) {
	case 0:
		w.WriteHeader([]int{500, 502, 503, 408, 429}[s.chance(5)])
		return
	case 1:
		panic(http.ErrAbortHandler)
	case 2: // for longer than anybody waits
		pause(time.Duration(s.chance(20)) * time.Second)
	}
	out := &cut{w, 1 + s.chance(3000)}
	if r.URL.Path == "/poll" {
		s.page(out, r)
		return
	}
	at, lines := s.now(), r.URL.Path == "/lines"
	if text := r.Header.Get("Last-Event-ID") + r.FormValue("since"); text != "" {
		at, _ = strconv.Atoi(text)
	}
	if !lines {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	for ends := s.chance(40); ends > 0 && r.Context().Err() == nil; ends-- {
		for ; at < s.now(); at++ {
			if lines {
				fmt.Fprintf(out, "{\"n\":%d}\n", at+1)
			} else {
				fmt.Fprintf(out, "data: {\"n\":%d}\nid: %d\n\n", at+1, at+1)
			}
		}
		http.NewResponseController(w).Flush()
		pause(time.Duration(s.chance(600)) * time.Millisecond)
		if s.chance(30) == 0 {
			pause(20 * time.Second) // nothing more comes, and the connection stays
		}
	}
}

// page answers with at most five numbers after the cursor, or with none where there is none.
func (s *numbers) page(out io.Writer, r *http.Request) {
	last := s.now()
	at, err := strconv.Atoi(r.FormValue("after"))
	if err != nil {
		at = last
	}
	var items []string
	for ; at < last && len(items) < 5; at++ {
		items = append(items, fmt.Sprintf(`{"n":%d}`, at+1))
	}
	fmt.Fprintf(out, `{"next":%d,"more":%v,"items":[%s]}`, at, at < last, strings.Join(items, ","))
}

// TestGoesOnWhateverComes: whatever becomes of answers, and however often another process goes on with what one has saved, each number comes once and in order from the first
// one on, and no gap is said.
func TestGoesOnWhateverComes(t *testing.T) {
	for name, s := range map[string]SourceSettings{
		"events": {From: "http://legacy/events", Mode: ModeStream, Format: "sse", Cursor: "id"},
		"lines":  {From: "http://legacy/lines?since={stream.cursor:}", Mode: ModeStream, Format: "lines", Cursor: ".n"},
		"pages":  {From: "http://legacy/poll?after={stream.cursor:now}", Every: 200 * time.Millisecond, Cursor: ".next", Select: ".items[]", Pages: 3, Next: ".more"},
		"items":  {From: "http://legacy/poll?after={stream.cursor:now}", Mode: ModeItems, Every: 200 * time.Millisecond, Cursor: ".next", Select: ".items[]", ID: ".n"},
		"long":   {From: "http://legacy/poll?after={stream.cursor:now}", Cursor: ".next", Select: ".items[]"},
	} {
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 5))
				service := &numbers{random: rand.New(rand.NewPCG(seed, 6))}
				bubble(t, service.ServeHTTP, func(t *testing.T) {
					service.begun = time.Now()
					s.Timeout, s.Idle = 3*time.Second, 3*time.Second
					goesOn(t, compiled(t, s), random)
				})
			})
		}
	}
}

// goesOn runs processes, one after the other.
func goesOn(t *testing.T, rt *Route, random *rand.Rand) {
	g := &going{t: t}
	for range 10 {
		ctx, kill := context.WithTimeout(t.Context(), time.Duration(random.IntN(40_000))*time.Millisecond)
		source, owed := expanded(t, rt, "/").Source(quietLog), false
		if g.saved != nil {
			if err := source.Restore(g.saved, nil); err != nil {
				t.Fatal(err)
			}
			owed = true
		}
		for ctx.Err() == nil {
			owed = g.connection(ctx, source, owed)
			sleep(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
		}
		kill()
	}
	if g.last == 0 {
		t.Error("nothing came")
	}
}

// going is what was emitted.
type going struct {
	t     *testing.T
	last  int
	saved []byte
}

// connection runs one connection as a stream does, and returns whether the next one must say if anything was lost; owed is whether this one must.
func (g *going) connection(ctx context.Context, source Source, owed bool) bool {
	conn, err := source.Connect(ctx)
	if err != nil {
		return owed
	}
	if owed && !conn.Resumed() && g.last > 0 {
		g.t.Fatalf("a gap after %d", g.last)
	}
	err = conn.Run(ctx, func(ms []translate.Message) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, m := range ms {
			var n int
			if _, err := fmt.Sscanf(string(m.Data), `{"n":%d}`, &n); err != nil || g.last > 0 && n != g.last+1 {
				g.t.Fatalf("%s%s after %d", m.Gap, m.Data, g.last)
			}
			g.last = n
		}
		g.saved = source.Save()
		return nil
	})
	var retry *Retry
	switch {
	case ctx.Err() != nil:
	case !errors.As(err, &retry) || !retry.Lossless && !retry.Resumes:
		if g.last > 0 {
			g.t.Fatalf("a gap after %d: %v", g.last, err)
		}
	}
	return retry != nil && retry.Resumes
}
