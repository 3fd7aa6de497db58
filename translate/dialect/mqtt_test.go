package dialect

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sidestream/translate"
)

func mqttSession(t testing.TB, max int, connect string, lines ...string) *mqtt {
	t.Helper()
	s := newMQTT(Options{Connect: fixed(connect), Subscribe: fixedLines(lines...), MaxMessage: max}).(*mqtt)
	mqttOpen(t, s, 0, 0)
	return s
}

// mqttOpen makes a connection ready whose CONNACK has these flags, and grants QoS qos.
func mqttOpen(t testing.TB, s *mqtt, present, qos byte) Received {
	t.Helper()
	if _, err := s.Open("mqtt"); err != nil {
		t.Fatal(err)
	}
	body, suback := []byte{present, 0}, []byte{0, 1}
	if s.version == 5 {
		body, suback = append(body, 0), append(suback, 0)
	}
	got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, body))
	if err == nil && !got.Ready {
		got, err = s.Receive(context.Background(), noon, packet(mqttSuback, 0, append(suback, bytes.Repeat([]byte{qos}, len(s.filters))...)))
	}
	if err != nil || !got.Ready {
		t.Fatalf("not ready: %v", err)
	}
	return got
}

// published is a PUBLISH packet; with id 0 of QoS 0.
func published(flags byte, topic string, id uint16, payload []byte) []byte {
	body := appendMQTT(nil, topic)
	if id > 0 {
		flags |= 2
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return packet(mqttPublish, flags, append(body, payload...)).Data
}

// giveBinary is give for binary messages.
func giveBinary(s Session, data []byte, random *rand.Rand, n int) (got Received, err error) {
	for len(data) > 0 {
		k := min(len(data), 1+random.IntN(n))
		piece := bytes.Clone(data[:k])
		part, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: piece})
		clear(piece)
		got.Messages = append(got.Messages, part.Messages...)
		got.Replies = append(append(got.Replies, part.Replies...), part.Acks...)
		if err != nil {
			return got, err
		}
		data = data[k:]
	}
	return got, nil
}

func TestMQTTPacketsInPieces(t *testing.T) {
	var all []byte
	var want []string
	for i := range 60 {
		payload := fmt.Sprint(i, strings.Repeat("p", i*i))
		all = append(all, published(0, fmt.Sprint("t/", i), uint16(i%3), []byte(payload))...)
		want = append(want, fmt.Sprint("t/", i, " ", payload))
	}
	for seed := range uint64(20) {
		s := mqttSession(t, 1<<20, "", "t/#")
		got, err := giveBinary(s, all, rand.New(rand.NewPCG(seed, 0)), 1+int(seed)*50)
		if err != nil || len(got.Messages) != len(want) || len(got.Replies) != 40 {
			t.Fatalf("seed %d: %d messages, %d replies, %v", seed, len(got.Messages), len(got.Replies), err)
		}
		for i, m := range got.Messages {
			if m.Topic+" "+string(m.Data) != want[i] {
				t.Fatalf("seed %d: message %d is %q of %q", seed, i, m.Data, m.Topic)
			}
		}
	}
}

// What is over MAX_MESSAGE is a gap, and is acknowledged: it would come for ever.
func TestMQTTBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{100, 101, 100_000, 300_000} {
		s := mqttSession(t, 100, "", "t")
		got, err := giveBinary(s, append(published(0, "t", 7, bytes.Repeat([]byte("x"), size)), published(0, "t", 0, []byte("next"))...), random, 10_000)
		if err != nil || len(got.Messages) != 2 || string(got.Messages[1].Data) != "next" || len(got.Replies) != 1 || !bytes.Equal(got.Replies[0].Data, []byte{0x40, 2, 0, 7}) {
			t.Fatalf("%d bytes: %d messages, %d replies, %v", size, len(got.Messages), len(got.Replies), err)
		}
		if whole := len(got.Messages[0].Data) == size && got.Messages[0].Gap == ""; whole != (size == 100) {
			t.Errorf("%d bytes: %+v", size, got.Messages[0])
		}
		if n := cap(s.parser.buf); n > 4*maxMQTTTopic {
			t.Errorf("%d bytes: %d are kept", size, n)
		}
	}
	s := mqttSession(t, 100, "", "t")
	if _, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}}); err != errMQTTFraming {
		t.Errorf("a length of five bytes: %v", err)
	}
	for i := range 3 * mqttTopics {
		s.remember(fmt.Sprint(i), [16]byte{})
	}
	if len(s.topics) != mqttTopics || s.order.Len() != mqttTopics {
		t.Errorf("%d topics are remembered", len(s.topics))
	}
}

// Which connections can be bridged, and which were.
func TestMQTTResumption(t *testing.T) {
	for name, test := range map[string]struct {
		connect   string
		lines     []string
		granted   byte
		present   byte
		resumable bool
		resumed   bool
	}{
		"3.1.1":                      {``, []string{"a 1"}, 1, 1, false, false},
		"3.1.1, a session":           {`{"clientId":"c","cleanSession":false}`, []string{"a 1"}, 1, 1, true, true},
		"3.1.1, it is gone":          {`{"clientId":"c","cleanSession":false}`, []string{"a 1"}, 1, 0, true, false},
		"3.1.1, one with QoS 0":      {`{"clientId":"c","cleanSession":false}`, []string{"a 1", "b"}, 1, 1, false, false},
		"5":                          {`{"version":5}`, []string{"a 1"}, 1, 1, true, true},
		"5, granted with QoS 0":      {`{"version":5}`, []string{"a 1"}, 0, 1, false, false},
		"5, QoS 0":                   {`{"version":5}`, []string{"a"}, 0, 1, false, false},
		"5, none is wanted":          {`{"version":5,"sessionExpiry":0}`, []string{"a 1"}, 1, 1, false, false},
		"5, a clean one is wanted":   {`{"version":5,"cleanSession":true}`, []string{"a 1"}, 1, 1, false, false},
		"5, one that lasts is asked": {`{"version":5,"sessionExpiry":600,"clientId":"c"}`, []string{"a 1"}, 1, 1, true, true},
	} {
		s := newMQTT(Options{Connect: fixed(test.connect), Subscribe: fixedLines(test.lines...)}).(*mqtt)
		if got := mqttOpen(t, s, test.present, test.granted); got.Resumed {
			t.Errorf("%s: the first connection goes on from another", name)
		}
		for n := range 3 {
			if s.Resumable() != test.resumable {
				t.Errorf("%s: resumable is %v after connection %d", name, s.Resumable(), n+1)
			}
			if got := mqttOpen(t, s, test.present, test.granted); got.Resumed != test.resumed {
				t.Errorf("%s: resumed is %v with connection %d", name, got.Resumed, n+2)
			}
		}
	}
}

// mqttGranted is a session whose one subscription was granted with QoS 1.
func mqttGranted(t *testing.T, connect string) *mqtt {
	s := newMQTT(Options{Connect: fixed(connect), Subscribe: fixedLines("a 1")}).(*mqtt)
	mqttOpen(t, s, 0, 1)
	return s
}

// A message that its publisher sent with QoS 0 shows that the broker may not have kept others like it.
func TestMQTTPublishersWithQoS0(t *testing.T) {
	give := func(s *mqtt, packets ...[]byte) (got string) {
		t.Helper()
		for _, p := range packets {
			r, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: p})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range r.Messages {
				got += m.Gap + string(m.Data) + " "
			}
		}
		return got
	}
	const session = `{"clientId":"c","cleanSession":false}`
	retained, zero, one := published(1, "a", 0, []byte("r")), published(0, "a", 0, []byte("0")), published(0, "a", 1, []byte("1"))

	for name, proof := range map[string][]byte{"0 ": zero, "r ": retained} {
		s := mqttGranted(t, session)
		if got := give(s, published(1, "a", 1, []byte("r1")), one); got != "r1 1 " || !s.Resumable() {
			t.Errorf("got %q, resumable: %v", got, s.Resumable())
		}
		if got := give(s, proof); got != name || s.Resumable() {
			t.Errorf("got %q, resumable: %v", got, s.Resumable())
		}
		if got := mqttOpen(t, s, 1, 1); got.Resumed || len(got.Replies) > 0 || s.step != mqttReady {
			t.Error("an interruption is bridged that may have lost something")
		}
		if s.Open("mqtt"); s.step != mqttConnecting {
			t.Fatal("not connecting")
		}
		if got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{1, 0})); err != nil || got.Ready || len(got.Replies) != 1 {
			t.Errorf("what is retained is not asked for: %+v, %v", got, err)
		}
	}

	s := mqttGranted(t, session)
	if got := mqttOpen(t, s, 1, 1); !got.Resumed {
		t.Error("not resumed")
	}
	mqttOpen(t, s, 1, 1)
	if got := give(s, one, zero, zero); got != "1 upstream 0 0 " {
		t.Errorf("got %q, want a gap for the interruptions that were called bridged", got)
	}

	for _, size := range []int{101, 2 * maxMQTTTopic} {
		s = newMQTT(Options{Connect: fixed(session), Subscribe: fixedLines("a 1"), MaxMessage: 100}).(*mqtt)
		mqttOpen(t, s, 0, 1)
		mqttOpen(t, s, 1, 1)
		if got := give(s, published(0, "a", 0, make([]byte, size))); got != "upstream " || s.Resumable() {
			t.Errorf("over MAX_MESSAGE: got %q, resumable: %v", got, s.Resumable())
		}
	}
}

// A session that lasts may hold what others have subscribed to with QoS 2: that exchange is completed (4.3.3), and nothing is emitted.
func TestMQTTQoS2OfOthers(t *testing.T) {
	two := func(topic string) Frame {
		return packet(mqttPublish, 4, append(appendMQTT(nil, topic), 0, 7, 'x'))
	}
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	for topic, want := range map[string]int{"b": 0, "a": 1} {
		got, err := s.Receive(context.Background(), noon, two(topic))
		if err != nil || len(got.Messages) != want || len(got.Replies) != 0 || len(got.Acks) != 1 || !bytes.Equal(got.Acks[0].Data, []byte{0x50, 2, 0, 7}) {
			t.Errorf("%s: got %+v, %v", topic, got, err)
		}
		got, err = s.Receive(context.Background(), noon, packet(mqttPubrel, 2, []byte{0, 7}))
		if err != nil || len(got.Messages) != 0 || len(got.Acks) != 1 || !bytes.Equal(got.Acks[0].Data, []byte{0x70, 2, 0, 7}) {
			t.Errorf("%s: got %+v, %v", topic, got, err)
		}
	}
	if _, err := mqttGranted(t, `{}`).Receive(context.Background(), noon, two("a")); err == nil {
		t.Error("a session that no other client can have holds more than was subscribed to")
	}
}

// A broker's queue has its bound, and what is over it was never there.
func TestMQTTQueueOfTheBroker(t *testing.T) {
	const session, often = `{"clientId":"c","cleanSession":false}`, `{"clientId":"c","cleanSession":false,"keepAlive":8}`
	for name, c := range map[string]struct {
		connect string
		came    []int // with each connection
		pings   int   // answered before the last message that makes a gap
		topic   string
		gaps    int
	}{
		"few":                  {session, []int{mqttQueue - 1}, 0, "a", 0},
		"many":                 {session, []int{2 * mqttQueue}, 0, "a", 1},
		"many, late":           {session, []int{2 * mqttQueue}, 1, "a", 0},
		"many, not so late":    {often, []int{2 * mqttQueue}, 3, "a", 1},
		"many, late, 6 s each": {often, []int{2 * mqttQueue}, 4, "a", 0},
		"in two connections":   {session, []int{mqttQueue - 1, mqttQueue - 1}, 0, "a", 1},
		"twice":                {session, []int{mqttQueue, mqttQueue}, 0, "a", 2},
		"few, each time":       {session, []int{mqttQueue / 2, mqttQueue / 2}, 1, "a", 0},
		"of others":            {session, []int{2 * mqttQueue}, 0, "b", 1},
	} {
		s, gaps := mqttGranted(t, c.connect), 0
		for _, came := range c.came {
			mqttOpen(t, s, 1, 1)
			for i := range came {
				for range map[bool]int{true: c.pings}[i == min(came, mqttQueue)-1] {
					s.Ping()
					s.Receive(context.Background(), noon, packet(mqttPingresp, 0, nil))
				}
				got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(0, c.topic, uint16(i+1), []byte("x"))})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range got.Messages {
					if m.Gap != "" {
						gaps++
					}
				}
			}
		}
		if gaps != c.gaps {
			t.Errorf("%s: %d gaps, want %d", name, gaps, c.gaps)
		}
	}
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false,"keepAlive":0}`)
	if mqttOpen(t, s, 1, 1); s.Timers().Every != mqttSettled {
		t.Error("the broker is not asked after an interruption")
	}
	s.Ping()
	if s.Receive(context.Background(), noon, packet(mqttPingresp, 0, nil)); s.Timers().Every != 0 {
		t.Error("the broker is asked again")
	}
}

// What is sent again may be a new message with the identifier of an old one.
func TestMQTTIdentifiersThatBeginAgain(t *testing.T) {
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	for i, flags := range []byte{0, 8} {
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(flags, "a", 1, []byte("tick"))})
		if err != nil || len(got.Messages) != 1 {
			t.Errorf("connection %d: %d messages, %v", i, len(got.Messages), err)
		}
		mqttOpen(t, s, 1, 1)
	}
}

// What is sent again with the identifier that it had is what it was, also in another process.
func TestMQTTSentAgain(t *testing.T) {
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	receive := func(flags byte, id uint16, text string) int {
		t.Helper()
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(flags, "a", id, []byte(text))})
		if err != nil || len(got.Acks) != 1 {
			t.Fatalf("%d acknowledged, %v", len(got.Acks), err)
		}
		return len(got.Messages)
	}
	for id, text := range map[uint16]string{7: "x", 8: "y"} {
		receive(0, id, text)
	}
	for i := range 3 {
		saved := s.Save()
		if i > 0 { // another process
			s = newMQTT(s.Options).(*mqtt)
			if err := s.Restore(saved); err != nil {
				t.Fatal(err)
			}
		}
		mqttOpen(t, s, 1, 1)
		if !s.resumed {
			t.Fatal("the session is not gone on with")
		}
		if receive(8, 7, "x") != 0 || receive(8, 8, "y") != 0 {
			t.Error("it is emitted twice")
		}
		if receive(8, 8, fmt.Sprint("z", i)) != 1 || receive(0, 9, "x") != 1 || receive(0, 7, "x") != 1 || receive(0, 8, "y") != 1 {
			t.Error("a new one is not emitted")
		}
	}
	five := mqttGranted(t, `{"version":5}`)
	ends := func() bool { return bytes.Contains(five.Leave()[0].Data, []byte{5, propSessionExpiry, 0, 0, 0, 0}) }
	if before := ends(); !before {
		t.Error("the session stays at the broker")
	}
	if five.HandOn(); ends() {
		t.Error("the session that is handed on ends")
	}
	for _, bad := range []string{"", "x", string(save(t, "id", "3a", "")), string(save(t, "id", "0a", "")), string(save(t, "id", "", "short"))} {
		if err := newMQTT(Options{}).Restore([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func save(t *testing.T, fields ...string) (saved []byte) {
	t.Helper()
	for i, f := range fields {
		if i == 1 && f != "" {
			f = string(translate.AppendField(nil, f))
		}
		saved = translate.AppendField(saved, f)
	}
	return saved
}

// A session may hold what another client subscribed to before this stream, and what another client does between two of its
// connections.
func TestMQTTSessionOfAnother(t *testing.T) {
	for name, c := range map[string]struct {
		connect string
		present []byte
		others  bool
	}{
		"before":               {`{"clientId":"c","cleanSession":false}`, []byte{1, 1, 1}, true},
		"between":              {`{"clientId":"c","cleanSession":false}`, []byte{0, 1, 1}, true},
		"before, 5":            {`{"version":5,"clientId":"c","sessionExpiry":60}`, []byte{1, 1, 1}, true},
		"between, 5":           {`{"version":5,"clientId":"c"}`, []byte{0, 1, 1}, true},
		"none, it has no name": {`{"version":5}`, []byte{0, 1, 1}, false},
		"none, it is clean":    {`{"clientId":"c"}`, []byte{0, 0, 0}, false},
	} {
		s := newMQTT(Options{Connect: fixed(c.connect), Subscribe: fixedLines("users/2/# 1", "$share/g/all 1"), MaxMessage: 100}).(*mqtt)
		for i, present := range c.present {
			mqttOpen(t, s, present, 1)
			for topic, ours := range map[string]bool{"users/1/inbox": false, "users/2/inbox": true, "users/2": true, "all": true, "g/all": false} {
				for _, size := range []int{1, 101, 2 * maxMQTTTopic} {
					body := binary.BigEndian.AppendUint16(appendMQTT(nil, topic), 7)
					if s.version == 5 {
						body = append(body, 0)
					}
					got, err := s.Receive(context.Background(), noon, packet(mqttPublish, 2, append(body, make([]byte, size)...)))
					if want := ours || !c.others; err != nil || (len(got.Messages) > 0) != want || len(got.Acks) != 1 {
						t.Errorf("%s: connection %d: %s of %d bytes: %d messages, %d acknowledged, %v", name, i+1, topic, size, len(got.Messages), len(got.Acks), err)
					}
				}
			}
		}
	}
}

// What comes as retained in a session that goes on was kept for it, also where it is what was there before; in a new one that is known already.
func TestMQTTRetainedInASession(t *testing.T) {
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	emitted := func(flags byte, id uint16) int {
		t.Helper()
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(1|flags, "a", id, []byte("on"))})
		if err != nil {
			t.Fatal(err)
		}
		return len(got.Messages)
	}
	emitted(0, 1)
	mqttOpen(t, s, 1, 1)
	if n := emitted(8, 1); n != 0 { // its acknowledgement was lost
		t.Errorf("what is sent again as a duplicate is emitted %d times more", n)
	}
	for i, c := range []struct {
		present byte
		want    int
	}{{0, 0}, {1, 1}, {1, 1}, {0, 0}} {
		if got := mqttOpen(t, s, c.present, 1); got.Resumed != (c.present == 1) {
			t.Fatalf("connection %d: resumed: %v", i+2, got.Resumed)
		}
		if n := emitted(0, uint16(i+2)); n != c.want {
			t.Errorf("connection %d: emitted %d times, want %d", i+2, n, c.want)
		}
	}
}

// An identifier that has been another message's since says nothing about a message that says what that of before said.
func TestMQTTRetainedUnderAnIdentifierOfOld(t *testing.T) {
	s := mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	for i, c := range []struct {
		text string
		id   uint16
	}{{"on", 1}, {"off", 1}, {"on", 2}, {"on", 1}} {
		if i%2 == 1 {
			mqttOpen(t, s, 1, 1)
		}
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(1|8, "a", c.id, []byte(c.text))})
		if err != nil || len(got.Messages) != 1 {
			t.Errorf("%d: %d are emitted, %v", i, len(got.Messages), err)
		}
	}
}

// Who shares a subscription asks for nothing that is retained, where the protocol can say that.
func TestMQTTSharedAsksForNothingRetained(t *testing.T) {
	for connect, want := range map[string][]byte{`{"version":5}`: {1, 1 | 2<<4, 0 | 2<<4}, `{}`: {1, 1, 0}} {
		s := newMQTT(Options{Connect: fixed(connect), Subscribe: fixedLines("a 1", "$share/g/b 1", "$queue/c 0")}).(*mqtt)
		s.Open("mqtt")
		var asked []byte
		for _, f := range s.subscribe() {
			r := mqttReader{b: f.Data[2:]}
			r.uint16()
			if s.version == 5 {
				r.properties()
			}
			for len(r.b) > 0 && !r.bad {
				_ = r.string()
				asked = append(asked, r.byte())
			}
		}
		if !bytes.Equal(asked, want) {
			t.Errorf("%s: %v, want %v", connect, asked, want)
		}
	}
}

// A password may have the user's name in it.
func TestMQTTSecretsInRefusals(t *testing.T) {
	s := newMQTT(Options{Connect: fixed(`{"username":"admin","password":"admin-secret"}`), Subscribe: fixedLines("a")}).(*mqtt)
	s.Open("mqtt")
	if got := s.hidden("bad password admin-secret of admin"); strings.Contains(got, "secret") || strings.Contains(got, "admin") {
		t.Errorf("shown: %q", got)
	}
}

func TestMQTTFilterMatches(t *testing.T) {
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{ // the examples of section 4.7 among them
		{"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b", false}, {"a/b", "a/B", false}, {"/a", "a", false}, {"/a", "/a", true},
		{"sport/tennis/player1/#", "sport/tennis/player1", true}, {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true}, {"sport/#", "sports", false}, {"#", "a/b/c", true}, {"#", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false}, {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"sport/tennis/+", "sport/tennis/player1", true}, {"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false}, {"sport/+", "sport/", true}, {"+/+", "/finance", true}, {"/+", "/finance", true}, {"+", "/finance", false},
		{"+/b/#", "a/b", true}, {"+/b/#", "a/c", false}, {"$share/g/a/+", "a/b", true}, {"$share/g/a/+", "g/a/b", false}, {"$queue/a", "a", true},
		{"a//b", "a//b", true}, {"a/+/b", "a//b", true}, {"", "", true},
	} {
		if got := (mqttFilter{filter: test.filter}).matches(test.topic); got != test.want {
			t.Errorf("%q matches %q: %v", test.filter, test.topic, got)
		}
	}
}

// Whether the first connection takes over what the broker has, and the second.
func TestMQTTCleanStart(t *testing.T) {
	for connect, want := range map[string][2]bool{
		``:              {true, true},
		`{"version":5}`: {true, false},
		`{"version":5,"clientId":"c","sessionExpiry":60}`:                      {false, false},
		`{"version":5,"clientId":"c","sessionExpiry":60,"cleanSession":true}`:  {true, false},
		`{"version":5,"clientId":"c","sessionExpiry":60,"cleanSession":false}`: {false, false},
		`{"clientId":"c","cleanSession":false}`:                                {false, false},
	} {
		s := newMQTT(Options{Connect: fixed(connect), Subscribe: fixedLines("a 1")}).(*mqtt)
		for i, want := range want {
			frames, err := s.Open("mqtt")
			if err != nil {
				t.Fatal(err)
			}
			if clean := frames[0].Data[9]&2 != 0; clean != want {
				t.Errorf("%s: connection %d begins clean: %v", connect, i+1, clean)
			}
			mqttOpen(t, s, 0, 1)
		}
	}
}

// A session that the broker made for a connection which never was ready is not the one that was lost.
func TestMQTTHalfOpenSession(t *testing.T) {
	s := mqttSession(t, 100, `{"version":5}`, "a 1")
	for i, present := range []byte{0, 1} {
		if _, err := s.Open("mqtt"); err != nil {
			t.Fatal(err)
		}
		got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{present, 0, 0}))
		if err != nil || got.Ready || got.Resumed || len(got.Replies) != 1 || got.Replies[0].Data[0]>>4 != mqttSubscribe {
			t.Errorf("attempt %d: %+v, %v", i, got, err)
		}
	}
}

// Nor is one that holds other filters.
func TestMQTTSubscribesAnew(t *testing.T) {
	for _, connect := range []string{`{"version":5}`, `{"clientId":"c","cleanSession":false}`} {
		lines := []string{"a 1"}
		s := newMQTT(Options{Connect: fixed(connect), Subscribe: func() ([]string, error) { return lines, nil }}).(*mqtt)
		mqttOpen(t, s, 0, 1)
		lines = []string{"a 1", "b 1"}
		if got := mqttOpen(t, s, 1, 1); got.Resumed || s.step != mqttReady {
			t.Errorf("%s: other filters are taken for the same", connect)
		}
		if got := mqttOpen(t, s, 1, 1); !got.Resumed {
			t.Errorf("%s: the new ones are not gone on with", connect)
		}
	}
}

// A retained message that was an event is none again, whatever came between.
func TestMQTTRetainedBehindAFailedOpening(t *testing.T) {
	retained := func(s *mqtt, want int) {
		t.Helper()
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: published(1, "a", 0, []byte("x"))})
		if err != nil || len(got.Messages) != want {
			t.Errorf("%d messages, want %d, %v", len(got.Messages), want, err)
		}
	}
	s := mqttSession(t, 100, ``, "a")
	retained(s, 1)
	if _, err := s.Open("mqtt"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{0, 0})); err != nil {
		t.Fatal(err)
	}
	mqttOpen(t, s, 0, 0)
	retained(s, 0)
}

// Client identifiers of streams differ, and are such as every broker takes.
func TestMQTTClientIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s := newMQTT(Options{Connect: fixed(""), Subscribe: fixedLines("a")}).(*mqtt)
		frames, err := s.Open("mqtt")
		if err != nil {
			t.Fatal(err)
		}
		id := string(frames[0].Data[14:])
		if len(id) != 22 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
		again, err := s.Open("mqtt")
		if err != nil || !bytes.Equal(frames[0].Data, again[0].Data) {
			t.Fatalf("the second connection is another client: %q, %v", again[0].Data, err)
		}
	}
}

func TestMQTTSettings(t *testing.T) {
	for _, test := range []struct{ connect, line, want string }{
		{`{"username":"a","password":"b","clientId":"c","version":"5","keepAlive":10,"sessionExpiry":60}`, "$share/g/a/+/b/# 1", ""},
		{``, "a/b 0", ""},
		{`[]`, "a", "CONNECT: is not a JSON object of what MQTT knows"},
		{`{"user":"a"}`, "a", "CONNECT: is not a JSON object of what MQTT knows"},
		{`{"version":3}`, "a", "CONNECT: version is 4 (MQTT 3.1.1) or 5"},
		{`{"sessionExpiry":60}`, "a", `CONNECT: sessionExpiry is for "version":5; with MQTT 3.1.1 write "cleanSession":false`},
		{`{"cleanSession":false}`, "a", `CONNECT: "cleanSession":false needs a "clientId" of its own, by which the broker knows its session`},
		{`{"password":"x"}`, "a", `CONNECT: a password needs a username, or "version":5`},
		{`{"password":"x","version":5}`, "a", ""},
		{`{"username":"` + strings.Repeat("x", 1<<16) + `"}`, "a", "CONNECT: username and password have 65535 bytes at the most"},
		{``, "a 2", ""},
		{``, "a 3", "SUBSCRIBE: line 1: what follows the topic filter is not a QoS; write 0, 1 or 2"},
		{``, "a b", "SUBSCRIBE: line 1: what follows the topic filter is not a QoS; write 0, 1 or 2"},
		{``, "$share/g/a/+ 2", ""},
		{``, "$share/g", "SUBSCRIBE: line 1: is not a shared subscription; write $share/group/topic"},
		{``, "$share//a", "SUBSCRIBE: line 1: is not a shared subscription; write $share/group/topic"},
		{``, "$share/+/a", "SUBSCRIBE: line 1: is not a shared subscription; write $share/group/topic"},
		{``, "a/#/b", "SUBSCRIBE: line 1: # is the last level of a topic filter or none"},
		{``, "a/b+", "SUBSCRIBE: line 1: # and + stand for whole levels of a topic filter"},
	} {
		got := ""
		if err := checkMQTT(test.connect, []string{test.line}); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s, %s: %s", test.connect, test.line, got)
		}
	}
	s := mqttSession(t, 100, "", "a")
	for _, bad := range []string{"", "x", `{"payload":"x"}`, `{"topic":"a/#","payload":""}`, `{"topic":"a","qos":3}`} {
		if frames, err := s.Send(translate.Message{Data: []byte(bad)}); err == nil || !strings.Contains(err.Error(), "write {") {
			t.Errorf("%q: %d frames, %v", bad, len(frames), err)
		}
	}
}

func FuzzMQTT(f *testing.F) {
	f.Add(bytes.Join([][]byte{step(7, "\x20\x02\x00\x00"), step(7, "\x90\x03\x00\x01\x01"), step(7, string(published(0, "a", 1, []byte("x")))),
		step(7, "\x30"), step(7, "\x03\x00\x01a"), step(1, ""), step(2, `{"topic":"a","payload":1}`), step(3, ""), step(5, "")}, nil), true)
	f.Add(bytes.Join([][]byte{step(7, "\x20\x02\x00\x00"), step(7, "\x90\x03\x00\x01\x02"), step(7, "\x34\x06\x00\x01a\x00\x07x"), step(7, "\x62\x02\x00\x07"),
		step(2, `{"topic":"a","payload":1,"qos":2}`), step(7, "\x50\x02\x00\x02"), step(7, "\x70\x02\x00\x02"), step(5, "")}, nil), false)
	f.Fuzz(func(t *testing.T, script []byte, five bool) {
		connect := `{"version":5,"clientId":"c"}`
		if !five {
			connect = `{"clientId":"c","cleanSession":false}`
		}
		fuzzSession(t, "mqtt", Options{Connect: fixed(connect), Subscribe: fixedLines("a 2", "+ 1")}, script, func(s Session) int {
			if s := s.(*mqtt); len(s.between) > maxMQTTUnder || len(s.under) > maxMQTTUnder || len(s.asking) > 2 {
				t.Fatalf("%d and %d messages are under way, %d lines asked for", len(s.between), len(s.under), len(s.asking))
			}
			return cap(s.(*mqtt).parser.buf) - maxMQTTTopic
		})
	})
}
