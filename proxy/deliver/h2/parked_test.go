package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2/h2test"
)

// TestParked: net/http leaves where all streams are adopted, and comes with a request, of which the client sees nothing.
func TestParked(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 200_000}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
		p.Fields = [][2]string{{"x-a", "which the table has"}, {"cookie", "of one who comes again"}}
		defer p.Conn.Close()
		events, other := p.Ask("GET", "/", nil), p.Ask("GET", "/", nil)
		synctest.Wait()
		want := ""
		say := func(s string) {
			t.Helper()
			want += s
			f.pour(s)
			synctest.Wait()
			if got := p.Got(events).Body.String(); got != want {
				t.Errorf("%d bytes came of %d", len(got), len(want))
			}
		}
		say("1")
		pass(parkFirst - time.Millisecond)
		if f.conn.Parked() {
			t.Error("net/http has left before its time")
		}
		say("2")
		pass(2 * time.Millisecond)
		if !f.conn.Parked() {
			t.Fatal("net/http has not left")
		}
		say("3")
		p.Ping()
		synctest.Wait()
		if n := p.Pings(); n != 1 {
			t.Errorf("%d PINGs are answered", n)
		}
		p.Cancel(other)
		synctest.Wait()
		if n := f.conn.Adopted(); n != 1 || !f.conn.Parked() {
			t.Errorf("%d streams after one was cancelled, parked: %v", n, f.conn.Parked())
		}
		p.Hold()
		say(strings.Repeat("x", int(p.Left())))
		f.pour("beyond the window")
		synctest.Wait()
		if got := p.Got(events).Body.String(); got != want {
			t.Errorf("%d bytes came of %d", len(got), len(want))
		}
		p.Grant(0, 100_000)
		want += "beyond the window"
		p.Flow()
		say("4")
		p.WriteRaw(frameOf(16, 0, 0, append([]byte{0, 0, 0, 1}, "u=1"...)...)) // PRIORITY_UPDATE of RFC 9218
		say("5")
		if !f.conn.Parked() {
			t.Fatal("net/http has come for nothing")
		}
		sent := h2test.Bulk(200_000)
		for round := range 20 {
			echo, bulk := p.Ask("POST", "/echo", sent), p.Ask("GET", "/bulk?100000", nil)
			synctest.Wait()
			if f.conn.Parked() {
				t.Fatal("net/http has not come")
			}
			if got := p.Got(echo); got.Status != "200" || !got.Ended || !bytes.Equal(got.Body.Bytes(), sent) {
				t.Fatalf("round %d: %q, %d bytes come back, reset %v", round, got.Status, got.Body.Len(), got.Reset)
			}
			if got := p.Got(bulk); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(100_000)) {
				t.Fatalf("round %d: %d bytes, reset %v", round, got.Body.Len(), got.Reset)
			}
			say(fmt.Sprint(round))
			if n := p.Allowed(); n > 1<<20 || n < 1<<20-8<<10 {
				t.Errorf("round %d: the client may send %d bytes of bodies", round, n)
			}
			pass(parkAgain + time.Millisecond)
			if !f.conn.Parked() {
				t.Fatalf("round %d: net/http has not left", round)
			}
		}
		if said, acks := p.Settings(); said != 1 || acks != 1 {
			t.Errorf("settings were said %d times, and the client's acknowledged %d times", said, acks)
		}
		f.end()
		synctest.Wait()
		if got := p.Got(events); !got.Ended {
			t.Error("the stream has no end")
		}
		pass(idleTime)
		if n, why := p.GoAways(); n != 1 || why != http2.ErrCodeNo {
			t.Errorf("%d GOAWAYs for want of streams, %v", n, why)
		}
		pass(farewell)
		<-p.Done
		synctest.Wait()
		if !f.over() {
			t.Error("the filler has not heard of the end")
		}
	})
}

// TestParkedOnceAnswered: net/http stays while there is a request that it has not answered, of which nothing is heard for long.
func TestParkedOnceAnswered(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		defer p.Conn.Close()
		quick := p.Ask("GET", "/", nil)
		pass(parkFirst / 2)
		slow := p.Ask("GET", "/slow", nil)
		pass(time.Second - time.Millisecond)
		if f.conn.Adopted() != 2 || f.conn.Parked() {
			t.Errorf("%d streams, parked: %v", f.conn.Adopted(), f.conn.Parked())
		}
		pass(parkFirst + 2*time.Millisecond)
		f.pour("1")
		pass(parkFirst)
		if !f.conn.Parked() || p.Got(slow).Body.String() != "1" || p.Got(quick).Body.String() != "1" {
			t.Errorf("parked: %v, and %q and %q came", f.conn.Parked(), p.Got(slow).Body.String(), p.Got(quick).Body.String())
		}
	})
}

// TestParkedEnds: a connection that is parked ends with its client, with its owner, and is left by those that are sent away.
func TestParkedEnds(t *testing.T) {
	park := func(t *testing.T, wo *works) (*h2test.Peer, *fountain, uint32) {
		p, f := wo.dial()
		id := p.Ask("GET", "/", nil)
		pass(parkFirst + time.Millisecond)
		if !f.conn.Parked() {
			t.Fatal("net/http has not left")
		}
		return p, f, id
	}
	inWorks(t, func(t *testing.T, wo *works) {
		p, f, _ := park(t, wo)
		p.Conn.Close()
		synctest.Wait()
		if f.gone != 1 || f.conn.Adopted() != 0 {
			t.Errorf("%d are gone after their client", f.gone)
		}
	})
	inWorks(t, func(t *testing.T, wo *works) {
		p, f, _ := park(t, wo)
		f.conn.Close()
		<-p.Done
	})
	inWorks(t, func(t *testing.T, wo *works) { // what is written to it fails
		p, f, _ := park(t, wo)
		f.queue.Conn.SetWriteDeadline(time.Now())
		f.pour("1")
		synctest.Wait()
		if !f.over() || f.gone != 1 {
			t.Errorf("the filler has heard of the end: %v, %d streams are gone", f.over(), f.gone)
		}
		<-p.Done
	})
	inWorks(t, func(t *testing.T, wo *works) {
		p, f, id := park(t, wo)
		f.mu.Lock()
		f.departs = true
		f.mu.Unlock()
		f.pour("1")
		synctest.Wait()
		if n, _ := p.GoAways(); n != 0 || p.Got(id).Body.String() != "1" {
			t.Errorf("%d GOAWAYs while a stream goes on, and %q", n, p.Got(id).Body.String())
		}
		f.end()
		synctest.Wait()
		if n, why := p.GoAways(); n != 1 || why != http2.ErrCodeNo || !p.Got(id).Ended {
			t.Errorf("%d GOAWAYs, %v; the stream has ended: %v", n, why, p.Got(id).Ended)
		}
		late := p.Ask("POST", "/echo", h2test.Bulk(1000))
		synctest.Wait()
		if got := p.Got(late); got.Status != "" || got.Reset != 0 {
			t.Errorf("after GOAWAY it is answered %q, reset %v", got.Status, got.Reset)
		}
		pass(farewell)
		<-p.Done
	})
	inWorks(t, func(t *testing.T, wo *works) { // what is asked while clients are sent away is answered
		p, f, _ := park(t, wo)
		f.mu.Lock()
		f.departs = true
		f.mu.Unlock()
		f.pour("1")
		synctest.Wait()
		echo := p.Ask("POST", "/echo", h2test.Bulk(1000))
		synctest.Wait()
		if got := p.Got(echo); got.Status != "200" || got.Body.Len() != 1000 {
			t.Errorf("it is answered %q, with %d bytes", got.Status, got.Body.Len())
		}
		p.Conn.Close()
	})
}

// TestParkedDespitePings: net/http leaves again where its client has nothing to say but PINGs.
func TestParkedDespitePings(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		defer p.Conn.Close()
		p.Ask("GET", "/", nil)
		pass(parkFirst + time.Millisecond)
		p.Ask("GET", "/bulk?10", nil)
		pass(time.Millisecond)
		if f.conn.Parked() {
			t.Fatal("net/http has not come")
		}
		for n := range 7 {
			p.Ping()
			pass(time.Second)
			if p.Pings() != n+1 {
				t.Errorf("%d PINGs of %d are answered", p.Pings(), n+1)
			}
		}
		if !f.conn.Parked() {
			t.Error("net/http has not left")
		}
	})
}

// TestParkedHasNoRoom: a connection that cannot be parked goes on with a net/http, which does not leave again.
func TestParkedHasNoRoom(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		defer p.Conn.Close()
		f.mu.Lock()
		f.full = true
		f.mu.Unlock()
		id := p.Ask("GET", "/", nil)
		pass(parkFirst + time.Millisecond)
		f.pour("1")
		echo := p.Ask("POST", "/echo", h2test.Bulk(1000))
		pass(3 * parkAgain)
		f.pour("2")
		synctest.Wait()
		if got := p.Got(id); got.Body.String() != "12" || got.Ended || f.conn.Parked() {
			t.Errorf("%q came, parked: %v", got.Body.String(), f.conn.Parked())
		}
		if got := p.Got(echo); !got.Ended || got.Body.Len() != 1000 {
			t.Errorf("%d bytes came back", got.Body.Len())
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.parked != 1 {
			t.Errorf("it was tried %d times", f.parked)
		}
	})
}

// TestParkedTable: a table that the client has had be smaller for a while is that once more in the next head, which clients insist on (RFC 7541,
// section 4.2).
func TestParkedTable(t *testing.T) {
	for _, stay := range []bool{true, false} {
		inWorks(t, func(t *testing.T, wo *works) {
			wo.stay = stay
			ours, theirs := net.Pipe()
			said := &recorded{Conn: ours}
			p, f := wo.dialOver(said, theirs)
			defer p.Conn.Close()
			p.Ask("GET", "/", nil)
			synctest.Wait()
			for _, size := range []uint32{3000, 100, 1000} {
				p.WriteRaw(frameOf(frameSettings, 0, 0, setting{settingTable, size}.append(nil)...))
				synctest.Wait()
			}
			pass(parkFirst + time.Millisecond)
			if f.conn.Parked() == stay {
				t.Fatalf("parked: %v", !stay)
			}
			had := len(said.bytes)
			p.Ask("GET", "/bulk?10", nil)
			synctest.Wait()
			want := appendNumber(appendNumber(nil, 0x20, 5, 100), 0x20, 5, 1000)
			if got, size := readWhole(said.bytes[had:]); got.kind != frameHeaders || !bytes.HasPrefix(said.bytes[had+headSize:had+size], want) {
				t.Errorf("net/http stays: %v: %+v, % x", stay, got, said.bytes[had:had+size])
			}
		})
	}
}

// recorded keeps what was read.
type recorded struct {
	net.Conn
	bytes []byte
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.bytes = append(r.bytes, p[:n]...)
	return n, err
}

// TestParkedStalls: a client that takes nothing of what is written to it is cut, parked or not.
func TestParkedStalls(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		p.Hold()
		p.Ask("GET", "/", nil)
		pass(parkFirst + time.Millisecond)
		f.pour(strings.Repeat("x", 100_000))
		pass(StallTime + time.Second)
		if f.gone != 1 {
			t.Errorf("%d are cut", f.gone)
		}
		p.Conn.Close()
	})
}

// frameOf is a frame of so many bytes.
func frameOf(kind, flags byte, stream uint32, payload ...byte) []byte {
	return append(head{len(payload), kind, flags, stream}.append(nil), payload...)
}

// heard is all that a client has heard, but for when.
func heard(p *h2test.Peer) string {
	var b strings.Builder
	ids := p.Streams()
	slices.Sort(ids)
	for _, id := range ids {
		got := p.Got(id)
		fmt.Fprintf(&b, "%d: %s, %d bytes %.20q, ended %v, reset %v\n", id, got.Status, got.Body.Len(), got.Body.String(), got.Ended, got.Reset)
	}
	said, acks := p.Settings()
	away, why := p.GoAways()
	fmt.Fprintf(&b, "settings %d, acknowledged %d, PINGs %d, GOAWAYs %d %v, after ends %d", said, acks, p.Pings(), away, why, p.After())
	return b.String()
}

// alike runs f where net/http leaves and where it stays, and holds what a client has heard of each against the other.
func alike(t *testing.T, name string, f func(wo *works, p *h2test.Peer, of *fountain)) {
	t.Helper()
	var was [2]string
	for i, stay := range []bool{true, false} {
		inWorks(t, func(t *testing.T, wo *works) {
			wo.stay = stay
			p, of := wo.dial()
			f(wo, p, of)
			pass(3 * time.Second)
			was[i] = heard(p)
			if closed(p.Done) {
				was[i] += ", closed"
			}
			p.Conn.Close()
		})
	}
	if was[0] != was[1] {
		t.Errorf("%s: where net/http stays\n%s\nand where it has left\n%s", name, was[0], was[1])
	}
}

// TestParkedHearsWhatIsWrong: whatever a client says, also what it must not, comes to the same.
func TestParkedHearsWhatIsWrong(t *testing.T) {
	update := func(stream, n uint32) []byte {
		return frameOf(frameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, n)...)
	}
	setting := func(id uint16, n uint32) []byte {
		return frameOf(frameSettings, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), n)...)
	}
	for name, said := range map[string][]byte{
		"a PING":                            frameOf(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		"many PINGs":                        bytes.Repeat(frameOf(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), 1000),
		"an answer to none":                 frameOf(framePing, flagAck, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		"a short PING":                      frameOf(framePing, 0, 0, 1, 2, 3),
		"a PING of a stream":                frameOf(framePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8),
		"an update by nothing":              update(0, 0),
		"one of a stream":                   update(1, 0),
		"one too large":                     update(0, 1<<31-1),
		"one too large, of a stream":        update(1, 1<<31-1),
		"one of a stream that is none yet":  update(99, 5),
		"one of a stream that was":          update(3, 5),
		"one of a stream of the server":     update(2, 5),
		"a short update":                    frameOf(frameWindowUpdate, 0, 0, 1),
		"a reset":                           frameOf(frameReset, 0, 1, 0, 0, 0, 8),
		"one of a stream that was, reset":   frameOf(frameReset, 0, 3, 0, 0, 0, 8),
		"a reset of one that is none yet":   frameOf(frameReset, 0, 99, 0, 0, 0, 8),
		"a reset of none":                   frameOf(frameReset, 0, 0, 0, 0, 0, 8),
		"a reset of one of the server":      frameOf(frameReset, 0, 2, 0, 0, 0, 8),
		"a short reset":                     frameOf(frameReset, 0, 1, 0),
		"a priority":                        frameOf(2, 0, 1, 0, 0, 0, 0, 1),
		"a priority of one that is to come": frameOf(2, 0, 99, 0, 0, 0, 0, 1),
		"one that depends on itself":        frameOf(2, 0, 1, 0, 0, 0, 1, 1),
		"a short priority":                  frameOf(2, 0, 1, 0),
		"settings":                          setting(settingWindow, 1000),
		"settings, twice":                   append(setting(settingWindow, 1000), setting(settingWindow, 100_000)...),
		"an acknowledgement of none":        frameOf(frameSettings, flagAck, 0),
		"a window that is none":             setting(settingWindow, 1<<31),
		"a frame size that is none":         setting(5, 1),
		"half a setting":                    frameOf(frameSettings, 0, 0, 1, 2, 3),
		"settings of a stream":              frameOf(frameSettings, 0, 1),
		"a kind that is not known":          frameOf(77, 3, 1, make([]byte, 16384)...),
		"one of those that is too large":    append(head{2 << 20, 77, 3, 1}.append(nil), make([]byte, 100)...),
		"one that net/http takes":           frameOf(77, 3, 1, make([]byte, 20_000)...),
		"a priority of RFC 9218":            frameOf(16, 0, 0, append([]byte{0, 0, 0, 1}, "u=1"...)...),
		"a promise":                         frameOf(5, flagEndHeaders, 1, 0, 0, 0, 2, 0x82),
		"the rest of a head":                frameOf(frameContinuation, flagEndHeaders, 1, 0x82),
		"data of an event stream":           frameOf(frameData, 0, 1, 1, 2, 3),
		"data of a stream that was":         frameOf(frameData, flagEndStream, 3, 1, 2, 3),
		"data of none":                      frameOf(frameData, 0, 0, 1, 2, 3),
		"data of a stream that is to come":  frameOf(frameData, 0, 99, 1, 2, 3),
		"GOAWAY":                            frameOf(frameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"a head of a stream of the server":  frameOf(frameHeaders, flagEndHeaders|flagEndStream, 2, selfRoot...),
		"a head of a stream that was":       frameOf(frameHeaders, flagEndHeaders|flagEndStream, 3, selfRoot...),
		"a head that is none":               frameOf(frameHeaders, flagEndHeaders|flagEndStream, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"a head of nothing":                 frameOf(frameHeaders, flagEndHeaders|flagEndStream, 5),
		"a field that there is not":         frameOf(frameHeaders, flagEndHeaders|flagEndStream, 5, append(slices.Clone(selfRoot), 0x80|100)...),
	} {
		for _, bytewise := range []bool{false, true} {
			alike(t, name, func(wo *works, p *h2test.Peer, f *fountain) {
				p.Ask("GET", "/", nil)
				p.Ask("GET", "/bulk?10", nil)
				pass(parkFirst + time.Millisecond)
				if f.conn.Parked() == wo.stay {
					t.Errorf("parked: %v", !wo.stay)
				}
				f.pour("1")
				synctest.Wait()
				p.Rough = true
				for rest := said; len(rest) > 0; {
					n := len(rest)
					if bytewise && n < 100 {
						n = 1
					}
					p.WriteRaw(rest[:n])
					rest = rest[n:]
					synctest.Wait()
				}
				f.pour("2")
				synctest.Wait()
				p.Ask("GET", "/bulk?20", nil)
			})
		}
	}
}

// TestParkedIsNotSeen does this and that at random.
func TestParkedIsNotSeen(t *testing.T) {
	parked := 0
	for seed := range uint64(60) {
		alike(t, fmt.Sprint("seed ", seed), func(wo *works, p *h2test.Peer, f *fountain) {
			random := rand.New(rand.NewPCG(seed, 3))
			p.Fields = [][2]string{{"x-a", "b"}}
			p.Ask("GET", "/", nil)
			synctest.Wait() // net/http acknowledges settings at once that come at once
			for range 60 {
				switch random.IntN(10) {
				case 0:
					p.Fields[0][1] = strings.Repeat(fmt.Sprint(random.IntN(10)), random.IntN(3000))
				case 1:
					p.Ask("GET", "/", nil)
				case 2:
					p.Ask("GET", fmt.Sprint("/bulk?", random.IntN(100_000)), nil)
				case 3:
					p.Ask("POST", "/echo", h2test.Bulk(1+random.IntN(100_000)))
				case 4:
					p.Ping()
				case 5:
					p.Resize(uint32(60_000 + random.IntN(50_000)))
				case 6:
					ids := p.Streams()
					slices.Sort(ids)
					if id := ids[random.IntN(len(ids))]; id != 1 && !p.Got(id).Ended && p.Got(id).Reset == 0 {
						p.Cancel(id)
					}
				case 7, 8:
					f.pour(strings.Repeat("y", random.IntN(2000)))
				case 9:
					synctest.Wait()
					pass(time.Duration(random.IntN(8000)) * time.Millisecond)
				}
				synctest.Wait()
			}
			f.mu.Lock()
			parked += f.parked
			f.mu.Unlock()
		})
		if t.Failed() {
			return
		}
	}
	if parked < 100 {
		t.Errorf("net/http has left %d times", parked)
	}
}
