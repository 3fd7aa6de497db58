package deliver

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/deflate"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// ticker is event n as a feed of prices has it.
func ticker(n int) translate.Message {
	return translate.Message{Event: "ticker", Data: fmt.Appendf(nil, `{"type":"ticker","sequence":%d,"product_id":"%s","price":"%d.%02d","volume_24h":"%d.%05d","time":"2026-11-29T10:%02d:%02d.%06dZ"}`,
		1_000_000+n, []string{"BTC-USD", "ETH-USD", "SOL-EUR"}[n%3], n*7919%50_000, n*31%100, n*17%1000, n*7877%100_000, n/60%60, n%60, n*7919%1_000_000)}
}

// zipper is a client that takes gzip: what it has got, and what that is to be.
type zipper struct {
	cursor
	sum       deflate.Sum
	got, want bytes.Buffer
	rest      []byte // of what is on its way
}

// TestZippedBatches has clients stand anywhere in a stream, be told things of their own, take parts of what there is, come back to a run: what each has got
// decodes to what it was given, in each form.
func TestZippedBatches(t *testing.T) {
	inRun := 0
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 7))
		ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 1 + rng.IntN(300), Start: []int{0, 1, stream.StartAll}[rng.IntN(3)]}, new(stream.Stats), false)
		clients := make([]*zipper, 6)
		for i := range clients {
			z := &zipper{cursor: cursor{at: stream.Begin, traits: isDeflated}}
			if i%2 == 0 {
				z.flags = isUnchunked
			}
			z.say("retry: 1000\n\n", true)
			clients[i] = z
			ring.Deflates(1)
		}
		for range 400 {
			switch z := clients[rng.IntN(len(clients))]; rng.IntN(12) {
			case 0, 1, 2, 3, 4:
				for range 1 + rng.IntN(2)*rng.IntN(20) {
					m := ticker(rng.IntN(5000))
					switch {
					case seed%4 == 1:
						m.Key = fmt.Sprint(rng.IntN(20))
					case seed%4 == 2:
						m.State = m.Data
					case seed%4 == 3 && rng.IntN(9) == 0:
						m.Data = bytes.Repeat(m.Data, 1+rng.IntN(300))
					}
					ring.Append(m)
				}
			case 5:
				z.say(strings.Repeat(":\n", 1+rng.IntN(100)), false)
			default:
				z.serve(t, ring, rng)
				if z.traits&isInRun != 0 {
					inRun++
				}
			}
		}
		for i, z := range clients {
			z.got.Write(z.rest)
			z.got.Write(z.wrap(deflate.AppendEnd(nil, z.sum)))
			text := z.got.Bytes()
			if z.flags&isUnchunked == 0 {
				text = unchunk(t, text)
			}
			in, err := gzip.NewReader(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, z.want.Bytes()) {
				t.Fatalf("seed %d, client %d: %d bytes, want %d, %v", seed, i, len(got), z.want.Len(), err)
			}
			ring.Deflates(-1)
		}
	}
	if inRun < 150 {
		t.Errorf("clients were in a run %d times", inRun)
	}
}

// say tells the client something of its own.
func (z *zipper) say(text string, opens bool) {
	z.got.Write(z.rest)
	z.rest = nil
	z.got.Write(z.wrap(z.tell([]byte(text), &z.sum, opens, false)))
	z.want.WriteString(text)
}

func (z *zipper) wrap(p []byte) []byte {
	if z.flags&isUnchunked != 0 {
		return p
	}
	return chunked(nil, p)
}

// serve gives the client what its socket takes of what there is.
func (z *zipper) serve(t *testing.T, ring *stream.Ring, rng *rand.Rand) {
	z.got.Write(z.rest)
	z.rest = nil
	var b, plain batch
	b.load(ring, z.at, z.form())
	b.zip()
	plain.load(ring, z.at, formPlain)
	if b.asked != b.from && len(b.events) > 0 && len(plain.events) > 1 {
		plain.keep(1)
	} else if len(b.events) < len(plain.events) { // what has to be compressed is bounded
		plain.trim(aloneMost)
	}
	if b.next != plain.next || b.missed != plain.missed || len(b.events) != len(plain.events) {
		t.Fatalf("from %d: %d events up to %d and %d missed, want %d up to %d and %d", z.at, len(b.events), b.next, b.missed, len(plain.events), plain.next, plain.missed)
	}
	if b.missed > 0 {
		z.say("event: gap\n\n", false)
	}
	all := bytes.Join(b.events, nil)
	room := len(all)
	if rng.IntN(3) == 0 {
		room = rng.IntN(room + 1)
	}
	took, left := uint64(0), room
	for _, e := range b.events { // as vectored.put
		if left == 0 {
			break
		}
		took++
		if left < len(e) {
			z.rest = e[left:]
			break
		}
		left -= len(e)
	}
	if took == 0 && b.asked != b.from && len(b.events) > 0 {
		took, z.rest = 1, b.events[0]
	}
	z.got.Write(all[:room])
	z.want.Write(bytes.Join(plain.events[:took], nil))
	if z.at = b.from + took; len(b.events) == 0 {
		z.at = b.next
	}
	b.gave(&z.cursor, took, &z.sum)
}

// unchunk is the body of chunks.
func unchunk(t *testing.T, p []byte) (body []byte) {
	for len(p) > 0 {
		line, rest, ok := bytes.Cut(p, []byte("\r\n"))
		var size int
		if _, err := fmt.Sscanf(string(line), "%x", &size); !ok || err != nil || len(rest) < size+2 {
			t.Fatalf("no chunk: %.20q, %v", p, err)
		}
		body, p = append(body, rest[:size]...), rest[size+2:]
	}
	return body
}

// TestZippedAnswers: whatever writes to a client, its answer is complete where the stream is, is cut where it is not, and is small.
func TestZippedAnswers(t *testing.T) {
	const events, each = 1500, 3
	for _, complete := range []bool{true, false} {
		for _, goroutines := range []bool{false, true} {
			h := newHarbour(t, stream.Bounds{}, time.Hour, func(p *Pacing) { p.Retry = time.Millisecond })
			h.clients.Goroutines = goroutines
			var clients []*http.Response
			for _, two := range []bool{false, true} {
				tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
				tr.Protocols.SetHTTP1(!two)
				tr.Protocols.SetUnencryptedHTTP2(two)
				defer tr.CloseIdleConnections()
				for range each {
					r, _ := http.NewRequest("GET", "http://"+h.addr+"/", nil)
					r.Header.Set("Accept-Encoding", "gzip")
					resp, err := tr.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					if got := resp.Header["Content-Encoding"]; !slices.Equal(got, []string{"gzip"}) {
						t.Fatalf("encoding %q", got)
					}
					defer resp.Body.Close()
					clients = append(clients, resp)
				}
			}
			eventually(t, "all are there", func() bool { return h.route.Stats.Clients.Load() == 2*each })
			plain := 0
			for i := range events {
				m := ticker(i)
				plain += len(m.Data)
				h.append(m)
				if i%50 == 0 { // a socket takes them, mostly one by one
					<-time.After(time.Millisecond)
				}
			}
			eventually(t, "all is written", func() bool { return h.route.Stats.Events.Load() == 2*each*events })
			kind := stream.End{Kind: stream.Retired}
			if complete {
				kind.Kind = stream.Finished
			}
			h.ring.Close(kind)
			for i, resp := range clients {
				in, err := gzip.NewReader(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(in)
				if (err == nil) != complete {
					t.Errorf("client %d, complete: %v: it ends with %v", i, complete, err)
				}
				if n := strings.Count(string(text), "event: ticker\n"); n != events {
					t.Errorf("client %d: %d events", i, n)
				}
				if last := string(ticker(events - 1).Data); !strings.Contains(string(text), last) {
					t.Errorf("client %d lacks the last event", i)
				}
			}
			if sent := int(h.route.Stats.Bytes.Load()); sent*2 > plain*2*each {
				t.Errorf("%d bytes for %d", sent/2/each, plain)
			}
		}
	}
}

// TestZippedOpening: an answer that is compressed begins with what any begins with, at once, and its heartbeats and last words come when they are said.
func TestZippedOpening(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, 20*time.Millisecond)
	h.gzip = true
	for i := range 8 {
		c, in := h.open([]string{"1.1", "1.0"}[i/4], "")
		defer c.Close()
		read := func() string {
			text, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		if first := read(); !strings.HasPrefix(first, "retry: ") {
			t.Errorf("it begins with %q", first)
		}
		for range 4 {
			read()
		}
		for range 3 {
			if beat := read(); beat != ":\n" && beat != "\n" {
				t.Errorf("a heartbeat is %q", beat)
			}
		}
	}
	if n := h.route.Stats.Clients.Load(); n != 8 {
		t.Errorf("%d are there", n)
	}
}

// TestZippedTurns: what is read for a client that has to wait for its turn is not compressed for nothing, counts as what there is to be compressed, and is
// bounded: whoever does not take it has it waiting.
func TestZippedTurns(t *testing.T) {
	ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false)
	for i := range 500 {
		ring.Append(ticker(i))
	}
	var b, plain batch
	plain.load(ring, 0, formPlain)
	plain.trim(aloneMost)
	b.load(ring, 0, formPlain|formDeflated)
	if b.size != plain.size || len(b.events) != len(plain.events) || !bytes.Equal(b.events[0], plain.events[0]) {
		t.Errorf("%d events, %d bytes, of %d", len(b.events), b.size, plain.size)
	}
	if b.zip(); b.size*100 > plain.size*85 || b.size+b.saved != plain.size {
		t.Errorf("%d bytes and %d saved, of %d", b.size, b.saved, plain.size)
	}
	size := b.size
	if b.zip(); b.size != size || b.size+b.saved != plain.size {
		t.Error("it is compressed twice")
	}
}

// slowly is an answer each write to which takes a while.
type slowly struct {
	header http.Header
	body   bytes.Buffer
}

func (s *slowly) Header() http.Header { return s.header }
func (s *slowly) WriteHeader(int)     {}
func (s *slowly) Flush()              {}
func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(50 * time.Millisecond)
	return s.body.Write(p)
}

// TestZippedBeatBeforeTurn: whoever is told something of its own while it waits for its turn has left its run when that comes, whatever was read for it before.
func TestZippedBeatBeforeTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false)
		ring.Deflates(1)
		for i := range 200 {
			ring.Append(ticker(i))
		}
		answer := &slowly{header: http.Header{}}
		clients := &Clients{}
		clients.init()
		route := &Pacing{Heartbeat: 10 * time.Second, Gzip: true, Stats: new(Stats)}
		r, _ := http.NewRequest("GET", "/", nil)
		c := clients.clientOf(newOutput(answer, r), r, Client{Route: route, Ring: ring, Gzip: true, LastID: "x"})
		c.deadline.wake = func() {}
		answer.body.WriteString(deflate.Header)
		c.state.flags &^= isUnopened
		var b batch
		b.load(ring, 0, formPlain|formDeflated)
		b.keep(100)
		b.zip()
		for _, e := range b.events {
			answer.body.Write(e)
		}
		b.gave(&c.state, 100, &c.sum)
		if c.state.at = 100; c.state.traits&isInRun == 0 {
			t.Fatal("it is in no run")
		}
		time.Sleep(20 * time.Second)
		clients.replays.rate.Store(1000)
		clients.replays.balance, clients.replays.at, clients.replays.window, clients.replays.spread = -20, time.Now(), time.Now(), spreadLeast
		c.turn()
		if c.state.at != 200 {
			t.Fatalf("it stands at %d", c.state.at)
		}
		answer.body.Write(deflate.AppendEnd(nil, c.sum))
		in, err := gzip.NewReader(&answer.body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if n := strings.Count(string(text), "event: ticker\n"); err != nil || n != 200 {
			t.Errorf("%d events, %v", n, err)
		}
	})
}
