package deflate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func random(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// What is summed up in parts is what is summed up as a whole, in whichever way it is put together.
func TestSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var all []byte
		var one Sum
		var whole Part
		for range rng.IntN(6) {
			p := random(rng, rng.IntN(3)*rng.IntN(40_000))
			all = append(all, p...)
			one.Add(SumOf(p))
			whole = whole.Then(SumOf(p))
		}
		want := Sum{crc32.ChecksumIEEE(all), uint32(len(all))}
		var added Sum
		if added.Add(whole); one != want || added != want {
			t.Fatalf("of %d bytes: %v and %v, want %v", len(all), one, added, want)
		}
	}
}

func TestSumIsModulo(t *testing.T) {
	var s Sum
	s.Add(partOf(Sum{1, 1<<32 - 2}, 1<<32-2))
	if s.Add(SumOf([]byte("abc"))); s.Size != 1 {
		t.Errorf("size %d", s.Size)
	}
}

// Blocks that stand alone may stand anywhere, and cost hardly more than what they are of.
func TestAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	out, want, sum := []byte(Header), []byte(nil), Sum{}
	for range 200 {
		var parts [][]byte
		size := 0
		for range rng.IntN(4) {
			p := random(rng, rng.IntN(2)*rng.IntN(90_000))
			if rng.IntN(2) == 0 {
				p = []byte(strings.Repeat(fmt.Sprintf(`data: {"n":%d}`, rng.IntN(10)), rng.IntN(300)))
			}
			parts = append(parts, p)
			size += len(p)
			want = append(want, p...)
			sum.Add(SumOf(p))
		}
		before := len(out)
		out = AppendAlone(out, parts...)
		if more := len(out) - before; more > size+size/20+3*blockFront {
			t.Errorf("%d bytes became %d", size, more)
		}
		if size == 0 && len(out) > before {
			t.Error("nothing became something")
		}
	}
	unzipped(t, AppendEnd(out, sum), want)
}

// What a client has been sent it can read at once, whichever blocks that is in.
func TestNothingIsHeldBack(t *testing.T) {
	r := Run{Encoders: &Encoders{Most: 1}}
	r.Begin(1, time.Now())
	ours, theirs := io.Pipe()
	defer theirs.Close()
	go theirs.Write([]byte(Header)) // ends with the read of it
	in, err := gzip.NewReader(ours)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		event := []byte(strings.Repeat("data: 1\n", 1+i%2*20))
		block := AppendAlone(nil, event)
		if i > 3 {
			block, _ = r.Append(nil, event, 1, time.Now())
		}
		go theirs.Write(block) // the same
		if _, err := io.ReadFull(in, make([]byte, len(event))); err != nil {
			t.Fatal(err)
		}
	}
}

// unzipped checks that a gzip reader reads want, and takes it for complete.
func unzipped(t *testing.T, zipped, want []byte) {
	t.Helper()
	in, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
	}
}

// A run's blocks serve whoever has had all of them from its beginning on, whatever came before that.
func TestRun(t *testing.T) {
	r := Run{Encoders: &Encoders{Most: 1}}
	now := time.Now()
	var pieces, events [][]byte
	var starts []int
	for i := range 500 {
		if i%60 == 0 {
			if !r.Begin(1, now) {
				t.Fatal("no encoder")
			}
			starts = append(starts, i)
		}
		event := fmt.Appendf(nil, `data: {"type":"ticker","n":%d,"price":%d}`+"\n\n", i, i*7919%1000)
		piece, ok := r.Append(nil, event, 1, now)
		if !ok {
			t.Fatal("it is lost")
		}
		pieces, events = append(pieces, piece), append(events, event)
	}
	for _, start := range starts {
		out := AppendAlone([]byte(Header), []byte("retry: 1000\n\n"))
		sum := Sum{}
		sum.Add(SumOf([]byte("retry: 1000\n\n")))
		for i := start; i < len(events); i++ {
			out = append(out, pieces[i]...)
			sum.Add(SumOf(events[i]))
		}
		unzipped(t, AppendEnd(out, sum), append([]byte("retry: 1000\n\n"), bytes.Join(events[start:], nil)...))
	}
	if all, plain := len(bytes.Join(pieces, nil)), len(bytes.Join(events, nil)); all*3 > plain*2 {
		t.Errorf("%d bytes became %d", plain, all)
	}
	// Anything in between shifts what is referred back to: that is why a client leaves the run.
	broken := slices.Concat([]byte(Header), pieces[0], AppendAlone(nil, []byte("anything")), pieces[1], pieces[2])
	in, err := gzip.NewReader(bytes.NewReader(broken))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if want := bytes.Join([][]byte{events[0], []byte("anything"), events[1], events[2]}, nil); bytes.Equal(got, want) {
		t.Error("the run refers to nothing")
	} else if err == nil || errors.Is(err, gzip.ErrChecksum) {
		t.Errorf("it ended as complete: %v", err)
	}
}

// What stands alone is small, and hardly larger than what it is of where that cannot be compressed.
func TestAloneIsSmall(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var feed []byte
	for i := 0; len(feed) < 300_000; i++ {
		feed = fmt.Appendf(feed, "id: 1q8xk3-%d\nevent: ticker\ndata: "+`{"type":"ticker","sequence":%d,"product_id":"%s","price":"%d.%02d","volume_24h":"%d.%05d"}`+"\n\n",
			i, 1_000_000+i, []string{"BTC-USD", "ETH-USD", "SOL-EUR"}[i%3], rng.IntN(50_000), rng.IntN(100), rng.IntN(1000), rng.IntN(100_000))
	}
	for _, size := range []int{2 << 10, 8 << 10, 64 << 10, 256 << 10} {
		if got := len(AppendAlone(nil, feed[:size])); got*100 > size*85 {
			t.Errorf("%d bytes of events became %d", size, got)
		}
	}
	for _, size := range []int{200, 2 << 10, 64<<10 - 1, 64 << 10, 256 << 10} {
		if got := len(AppendAlone(nil, random(rng, size))); got*100 > size*105 {
			t.Errorf("%d random bytes became %d", size, got)
		}
	}
}

// What is large is not kept by what has compressed it.
func TestLargeIsLetGo(t *testing.T) {
	large := random(rand.New(rand.NewPCG(8, 9)), 4<<20)
	r := Run{Encoders: &Encoders{Most: 1}}
	r.Begin(1, time.Now())
	if _, ok := r.Append(nil, large, 1, time.Now()); !ok || r.own.out.Cap() > outMost {
		t.Errorf("a run keeps %d bytes", r.own.out.Cap())
	}
	AppendAlone(nil, large)
	a := aloners.Get().(*aloner)
	if a.out.Cap() > outMost {
		t.Errorf("what compresses alone keeps %d bytes", a.out.Cap())
	}
}

// Encoders are few, and are where they have the most readers.
func TestEncoders(t *testing.T) {
	s := &Encoders{Most: 2, Idle: 5 * time.Second}
	now := time.Now()
	runs := make([]*Run, 5)
	for i := range runs {
		runs[i] = &Run{Encoders: s}
	}
	can := func(r *Run) bool { _, ok := r.Append(nil, []byte("x"), 3, now); return ok }
	for _, r := range runs[:2] {
		if !r.Begin(3, now) || !can(r) {
			t.Fatal("there is room")
		}
	}
	if runs[2].Begin(6, now) || can(runs[2]) {
		t.Error("one that has hardly more readers has taken one")
	}
	if !runs[2].Begin(7, now) || !can(runs[2]) {
		t.Error("one that has many more readers has none")
	}
	if can(runs[0]) == can(runs[1]) || len(s.lent) != 2 {
		t.Error("one of the two has lost its own")
	}
	now = now.Add(6 * time.Second)
	if !runs[3].Begin(1, now) || !can(runs[3]) {
		t.Error("what is idle is not given to anyone")
	}
	for _, r := range runs {
		r.End()
		r.End()
	}
	if len(s.lent) != 0 || len(s.free) != 2 {
		t.Errorf("%d lent, %d free", len(s.lent), len(s.free))
	}
	if !runs[4].Begin(1, now) || !can(runs[4]) || len(s.free) != 1 {
		t.Error("a free one is not used")
	}
}
