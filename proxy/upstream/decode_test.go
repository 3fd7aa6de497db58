package upstream

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
	"sidestream/translate/decode"
)

func gzipped(text string) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write([]byte(text))
	w.Close()
	return out.Bytes()
}

func (p *peer) sayBinary(messages ...[]byte) {
	for _, m := range messages {
		p.Write(p.ctx, websocket.MessageBinary, m)
	}
}

// HTX's manner: everything is gzip, and its pings have to be answered, by the subscription's own first of all.
func TestDecode(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) {
		f.note(p.hear())
		p.sayBinary(gzipped(`{"ping":1}`))
		f.note(p.hear())
		p.sayBinary(gzipped(`{"subbed":"x"}`), gzipped(`{"tick":9007199254740993}`), []byte("no gzip at all"), gzipped(`{"tick":2}`)[:30])
		p.say(`{"tick":3}`)
		p.sayBinary(gzipped(`{"tick":"` + strings.Repeat("x", 20<<10) + `"}`))
		p.sayBinary(gzipped(`{"tick":4}`))
		p.hear()
	}
	s := SourceSettings{MaxMessage: 1000, Decode: "gzip", Hello: "> {\"sub\":\"x\"}\n< .subbed", Reply: `select(.ping)|{pong:.ping}`, Select: "select(.tick)", Data: ".tick"}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		k.expect("0s 9007199254740993", "0s 3", "0s gap upstream", "0s 4")
		if !slices.Equal(f.heard, []string{`0s {"sub":"x"}`, `0s {"pong":1}`}) {
			t.Errorf("%q", f.heard)
		}
		st := k.route.Stats
		if st.Undecoded.Load() != 2 || st.Oversize.Load() != 1 || st.Received.Load() != 8 || st.JQFailed.Load() != 0 {
			t.Errorf("%d undecoded, %d over, %d received, %d programs failed", st.Undecoded.Load(), st.Oversize.Load(), st.Received.Load(), st.JQFailed.Load())
		}
		for text, n := range map[string]int{"message does not decode, dropped": 1, "message larger than MAX_MESSAGE skipped": 1, "limit=1000 received=": 1, "no gzip": 0, "gzip: it, or what follows it, does not begin as that does": 1} {
			if got := strings.Count(k.log.String(), text); got != n {
				t.Errorf("%q is said %d times: %s", text, got, k.log)
			}
		}
	})
}

// What does not decode is said once in ten seconds, and counted.
func TestDecodeFailuresAreSaidNowAndThen(t *testing.T) {
	f := &feed{talk: func(p *peer) {
		for range 25 {
			p.sayBinary([]byte{0xc1})
			time.Sleep(time.Second)
		}
		p.hear()
	}}
	subscribed(t, SourceSettings{Decode: "msgpack"}, f, func(t *testing.T, k *taking) {
		time.Sleep(30 * time.Second)
		if n := strings.Count(k.log.String(), "does not decode"); n != 3 || k.route.Stats.Undecoded.Load() != 25 || !strings.Contains(k.log.String(), "suppressed=9") {
			t.Errorf("said %d times, counted %d: %s", n, k.route.Stats.Undecoded.Load(), k.log)
		}
	})
}

func TestDecodePolls(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); !strings.HasPrefix(accept, "application/msgpack, ") {
			t.Errorf("Accept: %s", accept)
		}
		switch n {
		case 1:
			w.Write([]byte("\x81\xa1n\xcf\x00\x20\x00\x00\x00\x00\x00\x01")) // 2^53 + 1
		case 2:
			w.Write([]byte("\x81\xa1n\xcf\x00\x20"))
		case 3:
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(gzipped("\x81\xa1n\x02"))
		case 4:
			w.Write([]byte("\xdc\x01\x00" + strings.Repeat("\xc2", 256)))
		case 5:
			w.Write([]byte("\x20\x0a")) // 32, and something follows
		default:
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<html>log in"))
		}
	}}
	polled(t, SourceSettings{Every: time.Second, MaxMessage: 1000, Decode: "msgpack"}, a, func(k *taking) {
		time.Sleep(6 * time.Second)
		got := k.texts()
		want := []string{`{"n":9007199254740993}`, "lost: the answer does not decode: msgpack: at byte 4: it is cut short", `{"n":2}`,
			"lost: the answer does not decode: msgpack: it is larger than MAX_MESSAGE once it is decoded", "lost: the answer does not decode: msgpack: at byte 1: something follows it"}
		if err := k.end(); !slices.Equal(got, want) || err == nil || !strings.Contains(err.Error(), "answered with a page of HTML, probably a login") {
			t.Errorf("%q, %v", got, err)
		}
		if st := k.route.Stats; st.Undecoded.Load() != 2 || st.Oversize.Load() != 1 {
			t.Errorf("%d undecoded, %d over", st.Undecoded.Load(), st.Oversize.Load())
		}
	})
}

// An answer that holds nothing is that with EVERY=0, before anything is decoded, and after.
func TestDecodeNothing(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case n%3 == 1:
			w.WriteHeader(http.StatusOK)
		case n%3 == 2:
			w.Write(gzipped(" \n"))
		default:
			w.Write(gzipped(fmt.Sprint("\uFEFF", n)))
		}
	}}
	polled(t, SourceSettings{Decode: "gzip"}, a, func(k *taking) {
		time.Sleep(1700 * time.Millisecond)
		if got := k.texts(); !slices.Equal(got, []string{"", "3"}) || // the first is that it is connected
			k.route.Stats.Undecoded.Load() != 0 {
			t.Errorf("%q, %d undecoded", got, k.route.Stats.Undecoded.Load())
		}
	})
}

// Programs see an error's body decoded, where it is packed, and as it is elsewhere.
func TestDecodeErrors(t *testing.T) {
	for _, body := range []string{"\x81\xa4code\x07", `{"code":7}`} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.Write([]byte(body))
		}}
		polled(t, SourceSettings{Every: time.Second, Decode: "msgpack", Refused: "select(.code==7)|451"}, a, func(k *taking) {
			time.Sleep(time.Second)
			if err := k.end(); err == nil || !strings.Contains(err.Error(), "451") || !strings.Contains(err.Error(), "REFUSED") {
				t.Errorf("%q: %v", body, err)
			}
		})
	}
}

func TestDecodeSettings(t *testing.T) {
	for name, c := range map[string]struct {
		s    SourceSettings
		want string
	}{
		"unknown":   {SourceSettings{From: "ws://h/", Decode: "brotli"}, "write gzip, deflate, zlib, msgpack or cbor"},
		"order":     {SourceSettings{From: "ws://h/", Decode: "cbor,gzip"}, "write it last, and gzip before it"},
		"drop":      {SourceSettings{From: "ws://h/", Decode: "gzip", Binary: "drop"}, "unset BINARY"},
		"stream":    {SourceSettings{From: "http://h/", Decode: "gzip", Mode: ModeStream}, "MODE=stream reads one answer that never ends; unset it"},
		"dialect":   {SourceSettings{From: "ws://h/", Decode: "msgpack", Protocol: "wamp", Subscribe: "a", Connect: `{"realm":"r"}`}, "what wamp carries is not packed, unset it"},
		"sockjs":    {SourceSettings{From: "ws://h/", Decode: "gzip", Protocol: "sockjs+stomp", Subscribe: "/topic/a"}, "what sockjs+stomp carries is not packed"},
		"stomp":     {SourceSettings{From: "ws://h/", Decode: "gzip", Protocol: "stomp", Subscribe: "/topic/a"}, ""},
		"phoenix":   {SourceSettings{From: "ws://h/", Decode: "cbor", Protocol: "phoenix", Subscribe: "a"}, ""},
		"mqtt":      {SourceSettings{From: "ws://h/", Decode: "zlib, cbor", Protocol: "mqtt", Subscribe: "a"}, ""},
		"poll":      {SourceSettings{From: "http://h/", Decode: "gzip"}, ""},
		"poll drop": {SourceSettings{From: "http://h/", Decode: "gzip", Binary: "drop"}, ""}, // which is global, and for others
	} {
		_, err := Compile(c.s)
		var bad *SettingError
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &bad) || bad.Setting != "DECODE" || !strings.Contains(bad.Problem, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an old client is told is read with the same eyes, and counted nowhere.
func TestDecodeOverheard(t *testing.T) {
	s := SourceSettings{From: "ws://h/ws", Protocol: "raw", MaxMessage: 1000, Decode: "gzip", Data: ".a"}
	o := overheard(t, s, "/ws")
	if got := o.Frame(t.Context(), time.Now(), gzipped(`{"a":1}`), true); len(got) != 1 || string(got[0].Data) != "1" {
		t.Errorf("%v", got)
	}
	if got := o.Frame(t.Context(), time.Now(), []byte("no gzip at all"), true); len(got) != 0 || o.q.Route.Stats.Undecoded.Load() != 0 {
		t.Errorf("%v, %d counted", got, o.q.Route.Stats.Undecoded.Load())
	}
	s.From, s.Every, s.Mode = "http://h/ws", time.Second, ModeEvery
	o = overheard(t, s, "/ws")
	if got := o.Body(t.Context(), 200, http.Header{}, gzipped(`{"a":2}`)); len(got) != 1 || string(got[0].Data) != "2" {
		t.Errorf("%v", got)
	}
	if got := o.Body(t.Context(), 200, http.Header{}, []byte(`{"a":2}`)); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Whom a Socket.IO client in MessagePack has become after long polls is told to the session in the same form.
func TestOverheardPackedSocketIO(t *testing.T) {
	s := SourceSettings{From: "ws://h", Protocol: "socket.io+msgpack", Subscribe: "/\n/prices", MaxMessage: 1000}
	o := overheard(t, s, "/socket.io/?EIO=4&transport=websocket&sid=a")
	event, err := decode.AppendMsgpack(nil, []byte(`{"type":2,"nsp":"/prices","data":["price",{"n":1}]}`))
	if err != nil || o.Over() {
		t.Fatal(err)
	}
	if got := o.Frame(t.Context(), time.Now(), event, true); len(got) != 1 || got[0].Event != "price" || string(got[0].Data) != `{"n":1}` || !o.Listening() {
		t.Errorf("%v", got)
	}
	if frames, err := o.session.Send(translate.Message{Data: []byte(`/prices,["x"]`)}); err != nil || !frames[0].Binary {
		t.Errorf("%v, %v", frames, err)
	}
	if o.session.Timers().Opening != 0 {
		t.Error("a namespace is not connected")
	}
}
