package stream

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/translate"
	"sidestream/translate/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model is what a ring is, without a thought to cost: all events ever, and which of them are kept.
type model struct {
	bounds  Bounds
	epoch   string
	events  []modelEvent
	kept    int // index of the oldest kept
	history bool
	end     End
}

type modelEvent struct {
	id   string
	data string
	at   time.Time
	size int // as a chunk
}

func (m *model) own(seq int) string { return m.epoch + "-" + strconv.Itoa(seq) }

func (m *model) append(ms []translate.Message) {
	m.history = false
	if m.end.Kind == Open {
		for _, msg := range ms {
			seq := len(m.events) + 1
			e := modelEvent{id: msg.ID, at: time.Now()}
			if !sse.ValidID(msg.ID) || strings.HasPrefix(msg.ID, m.epoch+"-") || msg.Gap != "" {
				e.id = m.own(seq)
			}
			e.data = "data: " + string(msg.Data) + "\nid: " + e.id + "\n\n"
			if msg.Gap != "" {
				e.data = "event: stream.gap\ndata: {\"reason\":\"" + msg.Gap + "\",\"missed\":null}\nid: " + e.id + "\n\n"
			}
			e.size = len(fmt.Sprintf("%x", len(e.data))) + 2 + len(e.data) + 2
			m.events = append(m.events, e)
		}
	}
	m.evict()
}

func (m *model) evict() {
	for m.kept < len(m.events)-1 {
		size := 0
		for _, e := range m.events[m.kept:] {
			size += e.size
		}
		b, n := m.bounds, len(m.events)-m.kept
		if !(b.Events > 0 && n > b.Events || b.Bytes > 0 && size > b.Bytes || b.Age > 0 && time.Since(m.events[m.kept].at) > b.Age) {
			return
		}
		m.kept++
	}
}

// after returns everything after cursor.
func (m *model) after(cursor uint64) (data string, next, missed uint64, end End) {
	m.evict()
	at := int(cursor)
	if cursor == Begin {
		if m.history {
			return "", waiting, 0, End{}
		}
		n := m.bounds.Start
		if m.end.Kind == Finished {
			n = 1
		}
		at = len(m.events) - n
		if n == StartAll || at < m.kept {
			at = m.kept
		}
	}
	if at < m.kept {
		missed = uint64(m.kept - at)
		if slices.ContainsFunc(m.events[at:m.kept], func(e modelEvent) bool { return strings.HasPrefix(e.data, "event: stream.gap\n") }) {
			missed = Unknown
		}
		at = m.kept
	}
	for _, e := range m.events[at:] {
		data += e.data
	}
	return data, uint64(len(m.events)), missed, m.end
}

func (m *model) find(id string) (uint64, bool) {
	m.evict()
	for seq := range len(m.events) + 1 {
		if id == m.own(seq) {
			return uint64(seq), true
		}
	}
	for i := m.kept; i < len(m.events); i++ {
		if m.events[i].id == id && id != "" {
			return uint64(i + 1), true
		}
	}
	return 0, false
}

// all reads the ring from cursor to its end, a batch at a time, as events or as chunks.
func all(t *testing.T, read func([][]byte, uint64) ([][]byte, uint64, uint64, End), cursor uint64) (data string, next, missed uint64, end End) {
	t.Helper()
	var batch [][]byte
	next = cursor
	for first := true; ; first = false {
		var more uint64
		batch, next, more, end = read(batch[:0], next)
		if missed += more; more > 0 && !first {
			t.Fatalf("missed %d in the middle", more)
		}
		for _, b := range batch {
			data += string(b)
		}
		if len(batch) == 0 || end.Kind != Open {
			return data, next, missed, end
		}
	}
}

func unchunked(t *testing.T, chunks string) string {
	t.Helper()
	body, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(chunks + LastChunk)))
	if err != nil {
		t.Fatalf("%q: %v", chunks, err)
	}
	return string(body)
}

func randomMessages(random *rand.Rand, epoch string) []translate.Message {
	ms := make([]translate.Message, random.IntN(4))
	for i := range ms {
		ms[i].Data = bytes.Repeat([]byte("x"), random.IntN(40))
		switch random.IntN(8) {
		case 0:
			ms[i] = translate.Message{Gap: translate.GapUpstream, ID: "ignored"}
		case 1, 2:
			ms[i].ID = "u" + strconv.Itoa(random.IntN(20))
		case 3:
			ms[i].ID = epoch + "-" + strconv.Itoa(random.IntN(20)) // pretends to be one of ours
		case 4:
			ms[i].ID = "in valid"
		case 5:
			ms[i].Data = bytes.Repeat([]byte("y"), 300)
		}
	}
	return ms
}

func TestRingAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			pick := func(values ...int) int { return values[random.IntN(len(values))] }
			bounds := Bounds{Events: pick(0, 1, 2, 7, 50), Bytes: pick(0, 1, 100, 900), Age: time.Duration(pick(0, 1, 20)) * time.Second, Start: pick(0, 1, 3, 1000, StartAll)}
			history := pick(0, 1) == 1
			r := NewRing(NewEpoch(time.Now()), bounds, new(Stats), history)
			m := model{bounds: bounds, epoch: r.Epoch().String(), history: history}
			for range 120 {
				switch random.IntN(12) {
				case 0, 1, 2, 3, 4, 5:
					ms := randomMessages(random, m.epoch)
					r.Append(ms...)
					m.append(ms)
				case 6:
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				case 7:
					if random.IntN(8) == 0 {
						end := End{Kind: EndKind(1 + random.IntN(3)), Status: 403}
						r.Close(end)
						if m.history = false; m.end.Kind == Open {
							m.end = end
						}
					}
				}
				compare(t, seed, r, &m, random)
			}
		})
	}
}

func compare(t *testing.T, seed uint64, r *Ring, m *model, random *rand.Rand) {
	t.Helper()
	cursors := []uint64{0, Begin, uint64(len(m.events)), uint64(random.IntN(len(m.events) + 1))}
	for _, cursor := range cursors {
		data, next, missed, end := all(t, r.After, cursor)
		chunks, cnext, cmissed, cend := all(t, r.Chunks, cursor)
		wantData, wantNext, wantMissed, wantEnd := m.after(cursor)
		if data != wantData || next != wantNext || missed != wantMissed || end != wantEnd {
			t.Fatalf("seed %d, %+v: after %d: %q, %d, %d, %v; want %q, %d, %d, %v", seed, m.bounds, cursor, data, next, missed, end, wantData, wantNext, wantMissed, wantEnd)
		}
		if unchunked(t, chunks) != wantData || cnext != next || cmissed != missed || cend != end {
			t.Fatalf("seed %d: the chunks after %d are %q, %d, %d, %v", seed, cursor, chunks, cnext, cmissed, cend)
		}
	}
	n := random.IntN(len(m.events) + 3)
	for _, id := range []string{"", "u" + strconv.Itoa(random.IntN(20)), m.own(n), m.own(0), m.own(n) + "0", m.epoch + "-0" + strconv.Itoa(n), m.epoch + "-", m.epoch, "1-1", m.epoch + "--1", r.Position(uint64(n))} {
		cursor, ok := r.Find(id)
		wantCursor, wantOK := m.find(id)
		if ok != wantOK || ok && cursor != wantCursor {
			t.Fatalf("seed %d: find %q: %d, %v; want %d, %v", seed, id, cursor, ok, wantCursor, wantOK)
		}
	}
	last, end := r.Last()
	wantID := m.own(len(m.events))
	if len(m.events) > 0 {
		wantID = m.events[len(m.events)-1].id
	}
	if last != uint64(len(m.events)) || end != m.end || r.LastID() != wantID {
		t.Fatalf("seed %d: last %d %v %q, want %d %v %q", seed, last, end, r.LastID(), len(m.events), m.end, wantID)
	}
}
