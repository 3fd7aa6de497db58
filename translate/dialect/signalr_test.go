package dialect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sidestream/translate"
	"sidestream/translate/decode"
)

func hubSession(lines ...string) *signalr {
	return newSignalR(Options{
		Dial:      func() (Dial, error) { return Dial{URL: "wss://legacy.example/hub", Header: http.Header{}}, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*signalr)
}

func TestSignalRCheck(t *testing.T) {
	for line, want := range map[string]string{
		`Join`: "", `Join ["a", {"b":1}]`: "", `stream Counter [10]`: "", `stream Counter`: "", `stream`: "", `stream [1]`: "",
		`Join a`: "no JSON array", `Join {"a":1}`: "no JSON array", `Join ["a"`: "no JSON array", `["a"]`: "no method", `stream Counter 10`: "no JSON array",
		`{"type":1}`: "no method",
	} {
		err := checkSignalR("", []string{"Fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestSignalRBounds(t *testing.T) {
	s := hubSession()
	s.Open("")
	if _, err := s.Receive(context.Background(), noon, hubFrame("{}")); err != nil {
		t.Fatal(err)
	}
	wanted := strings.Repeat(`{"type":1,"target":"Ask","arguments":[],"invocationId":"1"}`+"\x1e", maxHubResults+1)
	got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(wanted)})
	if err == nil || len(got.Replies) != maxHubResults {
		t.Errorf("%d results, %v", len(got.Replies), err)
	}
	s.Dial(nil)
	for range maxHubHops {
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"https://other.example/"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"https://other.example/"}`)}); err == nil || !strings.Contains(err.Error(), "redirected more than") {
		t.Errorf("%v", err)
	}
	for _, answer := range []string{
		fmt.Sprintf(`{"url":"https://other.example/%s"}`, strings.Repeat("x", maxHubAddress)),
		fmt.Sprintf(`{"url":"https://other.example/","accessToken":"%s"}`, strings.Repeat("x", maxHubToken+1)),
		fmt.Sprintf(`{"connectionToken":"%s","negotiateVersion":1,"availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`, strings.Repeat("x", maxHubToken+1)),
	} {
		s.Dial(nil)
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(answer)}); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.60s: %v", answer, err)
		}
	}
}

// What was meant for the first host stays there, even when the redirect lacks what it should have.
func TestSignalRForeignHost(t *testing.T) {
	for address, kept := range map[string]bool{
		"https://legacy.example/x": true, "https://LEGACY.example:443/x": true, "https://legacy.example:8443/x": false, "https://legacy.example.evil/x": false, "https://evil/legacy.example": false,
	} {
		s := hubSession()
		s.Options.Dial = func() (Dial, error) {
			return Dial{URL: "wss://legacy.example/hub", Header: http.Header{"Authorization": {"own"}, "Cookie": {"own"}, "X-Key": {"own"}}}, nil
		}
		s.Dial(nil)
		d, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"` + address + `"}`)})
		if err != nil || d.Request == nil {
			t.Fatal(err)
		}
		h := d.Request.Header
		if (h.Get("Authorization") == "own") != kept || (h.Get("Cookie") == "own") != kept || (h.Get("X-Key") == "own") != kept {
			t.Errorf("%s: %v", address, h)
		}
	}
}

func TestSignalRUnaskedAnswer(t *testing.T) {
	if _, err := hubSession().Dial(&HTTPResponse{Status: 200, Body: []byte(`{}`)}); err == nil {
		t.Error("an answer without a question was taken")
	}
}

func TestSignalRBadLine(t *testing.T) {
	s := hubSession("Join {")
	s.Open("")
	var refused *translate.Refused
	if _, err := s.Receive(context.Background(), noon, hubFrame("{}")); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
}

func FuzzSignalRPacked(f *testing.F) {
	said := func(lists ...string) string {
		out := []byte{2}
		for _, list := range lists {
			message, err := decode.AppendMsgpack(nil, []byte(list))
			if err != nil {
				f.Fatal(err)
			}
			out = append(binary.AppendUvarint(out, uint64(len(message))), message...)
		}
		return string(out)
	}
	agreed := "\x02{}\x1e"
	f.Add(pieces(agreed, said(`[1,{},"1","T",[1,{"a":2}],[]]`, "[6]"), "\x03", "\x04Say [1]"))
	f.Add(pieces(agreed+said(`[1,{},null,"T",[]]`)[1:], said(`[3,{},"subscribe-1",3,1]`), said(`[2,{},"subscribe-2",1]`, `[3,{},"subscribe-2",2]`), said(`[3,{},"x",1,"no"]`)))
	f.Add(pieces(agreed, said(`[7,"x",true]`), agreed, "\x02\x01", "\x04{\"type\":1}", "\x04{\"type\":3,\"result\":1}"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := hubSession("Join [1]", "stream Counter")
		s.packed, s.MaxMessage = true, fuzzMax
		drive(t, packedSignalR{s}, script, func() {
			if len(s.waiting) > 1 || len(s.streams) > 1 || s.hops > maxHubHops+1 || len(s.unacked) > maxHubUnacked || s.unackedBytes > maxHubUnackedBytes {
				t.Fatal("it grows")
			}
		})
	})
}

func FuzzSignalR(f *testing.F) {
	agreed := "\x00{}\x1e"
	f.Add(pieces(agreed, "\x00{\"type\":1,\"target\":\"T\",\"arguments\":[1,{\"a\":2}],\"invocationId\":\"1\"}\x1e{\"type\":6}\x1e", "\x03", "\x04Say [1]"))
	f.Add(pieces(agreed, "\x00{\"type\":3,\"invocationId\":\"subscribe-1\"}\x1e", "\x00{\"type\":2,\"invocationId\":\"subscribe-2\",\"item\":1}\x1e{\"type\":3,\"invocationId\":\"subscribe-2\"}\x1e"))
	f.Add(pieces("\x07{\"url\":\"https://a/b\",\"accessToken\":\"t\"}", "\x07{\"connectionId\":\"1\",\"availableTransports\":[{\"transport\":\"WebSockets\",\"transferFormats\":[\"Text\"]}]}"))
	f.Add(pieces(agreed, "\x00{\"type\":7,\"allowReconnect\":true}\x1e", agreed, "\x02\x01", "\x04{\"type\":1}"))
	f.Add(pieces("\x07{\"connectionToken\":\"1\",\"negotiateVersion\":1,\"useStatefulReconnect\":true,\"availableTransports\":[{\"transport\":\"WebSockets\",\"transferFormats\":[\"Text\"]}]}",
		agreed, "\x00{\"type\":3,\"invocationId\":\"subscribe-1\"}\x1e", "\x04Say [1]", "\x03", "\x06", "\x07", "\x00{\"type\":9,\"sequenceId\":1}\x1e{\"type\":8,\"sequenceId\":1}\x1e", "\x06", "\x00{\"type\":9,\"sequenceId\":99}\x1e"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := hubSession("Join [1]", "stream Counter")
		drive(t, s, script, func() {
			if len(s.waiting) > 1 || len(s.streams) > 1 || s.hops > maxHubHops+1 || len(s.unacked) > maxHubUnacked || s.unackedBytes > maxHubUnackedBytes {
				t.Fatal("it grows")
			}
		})
	})
}

// A message that is too large in JSON is a gap, and those beside it count.
func TestSignalRPackedBounds(t *testing.T) {
	s := packedSignalR{&signalr{Options: Options{Subscribe: fixedLines(), MaxMessage: 64}, packed: true}}
	s.Open("")
	data := []byte("{}\x1e")
	for _, list := range []string{`[1,{},null,"A",[1],[]]`, `[1,{},null,"Long",["` + strings.Repeat("\\n", 40) + `"],[]]`, `[1,{},null,"B",[2],[]]`} {
		message, err := decode.AppendMsgpack(nil, []byte(list))
		if err != nil {
			t.Fatal(err)
		}
		data = append(binary.AppendUvarint(data, uint64(len(message))), message...)
	}
	got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: data})
	if err != nil || len(got.Messages) != 3 || got.Messages[0].Event != "A" || got.Messages[1].Gap != translate.GapUpstream || got.Messages[2].Event != "B" || !got.Ready ||
		len(got.Decoded) != 1 || !errors.Is(got.Decoded[0].Err, decode.ErrTooLarge) {
		t.Errorf("%+v, %v", got, err)
	}
}

// statefulHub is a session with a connection that stands.
func statefulHub(t *testing.T, o Options) *signalr {
	t.Helper()
	o.Dial = func() (Dial, error) { return Dial{URL: "wss://legacy.example/hub", Header: http.Header{}}, nil }
	o.Subscribe = fixedLines()
	s := newSignalR(o).(*signalr)
	s.Dial(nil)
	d, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"connectionToken":"1","negotiateVersion":1,"useStatefulReconnect":true,"availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`)})
	if err != nil || d.Request != nil {
		t.Fatal(d, err)
	}
	s.Open("")
	if got, err := s.Receive(t.Context(), noon, hubFrame("{}")); err != nil || !got.Ready || !s.Resumable() {
		t.Fatal(got, err)
	}
	return s
}

// What a hub does not acknowledge is kept up to a bound, after which the connection ends with its WebSocket.
func TestSignalRUnacknowledged(t *testing.T) {
	s := statefulHub(t, Options{})
	for i := range maxHubUnacked {
		s.Sending([]Frame{hubFrame(`{"type":1,"target":"T","arguments":[]}`), hubFrame(`{"type":6}`), hubFrame("no JSON"), {}})
		if !s.Resumable() {
			t.Fatalf("after %d", i)
		}
	}
	s.acknowledged(10)
	if len(s.unacked) != maxHubUnacked-10 || s.unackedBytes != len(s.unacked)*len(s.unacked[0].Data) {
		t.Errorf("%d records, %d bytes", len(s.unacked), s.unackedBytes)
	}
	for range 11 {
		s.Sending([]Frame{hubFrame(`{"type":1,"target":"T","arguments":[]}`)})
	}
	if s.Resumable() || len(s.unacked) > 0 || s.unackedBytes > 0 || s.counted != maxHubUnacked+11 {
		t.Errorf("%+v", s.hubPlace)
	}
	s = statefulHub(t, Options{})
	s.Sending([]Frame{hubFrame(`{"type":1,"target":"` + strings.Repeat("x", maxHubUnackedBytes) + `"}`)})
	if s.Resumable() {
		t.Error("a record is kept that is over the bound")
	}
}

// A burst is acknowledged before a hub's buffer is full, and not record by record.
func TestSignalRAcknowledgesBursts(t *testing.T) {
	s := statefulHub(t, Options{})
	record := `{"type":1,"target":"T","arguments":["` + strings.Repeat("x", 1000) + `"]}`
	acks := 0
	for range 100 {
		got, err := s.Receive(t.Context(), noon, hubFrame(record))
		if err != nil {
			t.Fatal(err)
		}
		acks += len(got.Acks)
	}
	if acks < 2 || acks > 4 {
		t.Errorf("%d acknowledgements of 100 kB", acks)
	}
}

// Another process does not go on where clients' messages may not have been counted, nor where a token has led.
func TestSignalRSaved(t *testing.T) {
	for name, c := range map[string]struct {
		o     Options
		after func(s *signalr)
		saves bool
	}{
		"as it is":  {saves: true},
		"sends":     {o: Options{Speaks: true}},
		"elsewhere": {after: func(s *signalr) { s.elsewhere.URL = "https://other.example/?token=hush" }},
		"forgotten": {after: func(s *signalr) { s.forget() }},
		"too large": {after: func(s *signalr) { s.id = strings.Repeat("x", translate.MaxSaved) }},
	} {
		s := statefulHub(t, c.o)
		if c.after != nil {
			c.after(s)
		}
		s.HandOn()
		saved := s.Save()
		if (len(saved) > 1) != c.saves || saved == nil || strings.Contains(string(saved), "hush") {
			t.Errorf("%s: %q", name, saved)
		}
		next := hubSession()
		if err := next.Restore(saved); err != nil || next.Resumable() != c.saves || next.Save() == nil {
			t.Errorf("%s: %v", name, err)
		}
		if name != "too large" && s.Cuts() != c.saves || (s.Leave() == nil) != s.Cuts() {
			t.Errorf("%s: cuts %v", name, s.Cuts())
		}
	}
	s := statefulHub(t, Options{})
	if s.Cuts() || s.Leave() == nil {
		t.Error("a connection that is not handed on is cut")
	}
	saved := s.Save()
	for n := range saved {
		_ = hubSession().Restore(saved[:n]) // no panic
	}
	for _, bad := range [][]byte{fieldsOf("id"), fieldsOf("", "1", "1", "true"), fieldsOf("id", "x", "1", "true"), fieldsOf("id", "-1", "1", "true"), fieldsOf("id", "1", "1", "maybe")} {
		if err := hubSession().Restore(bad); !errors.Is(err, translate.ErrSaved) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Inside of SockJS each dial is to a session of its own.
func TestSignalRInSockJS(t *testing.T) {
	d, err := Find("sockjs+signalr")
	if err != nil {
		t.Fatal(err)
	}
	s := d.New(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h/hub", Header: http.Header{}}, nil }})
	if got, err := s.Dial(nil); err != nil || strings.Contains(got.Request.URL, hubStateful) {
		t.Errorf("%+v %v", got, err)
	}
}

// A message that is too large in JSON is a gap once, and has its number.
func TestSignalRPackedTooLargeCounts(t *testing.T) {
	inner := statefulHub(t, Options{MaxMessage: 64})
	inner.packed = true
	s := packedSignalR{inner}
	var data []byte
	for _, list := range []string{`[1,{},null,"A",["` + strings.Repeat("\\n", 40) + `"],[]]`, `[1,{},null,"B",[1],[]]`} {
		message, err := decode.AppendMsgpack(nil, []byte(list))
		if err != nil {
			t.Fatal(err)
		}
		data = append(binary.AppendUvarint(data, uint64(len(message))), message...)
	}
	for again, want := range []int{2, 0} {
		got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: data})
		if err != nil || len(got.Messages) != want || s.received != 2 {
			t.Errorf("%d: %+v %v, %d received", again, got.Messages, err, s.received)
		}
		s.Open("")
		if got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte{3, 0x92, 9, 1}}); err != nil || !got.Resumed {
			t.Errorf("%+v %v", got, err)
		}
	}
	for _, message := range []string{"", "\x91", "\xdc\x00\x01", "\xdd\x00\x00\x00\x01", "\x91\xcc"} {
		if kind := packedHubType([]byte(message)); kind != 0 {
			t.Errorf("%q: %d", message, kind)
		}
	}
}
