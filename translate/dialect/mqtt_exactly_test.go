package dialect

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sidestream/translate"
)

// mqttGives is what comes of packets: messages, and the kinds and identifiers of what is sent, acknowledgements in brackets.
func mqttGives(t testing.TB, s *mqtt, packets ...[]byte) string {
	t.Helper()
	var all []string
	for _, p := range packets {
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: p})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got.Messages {
			all = append(all, m.Gap+string(m.Data))
		}
		for i, f := range append(got.Replies, got.Acks...) {
			text := fmt.Sprintf("%d:%d", f.Data[0]>>4, binary.BigEndian.Uint16(f.Data[2:]))
			if i >= len(got.Replies) {
				text = "(" + text + ")"
			}
			all = append(all, text)
		}
		all = append(all, got.Complaints...)
	}
	return strings.Join(all, " ")
}

// two is a PUBLISH with QoS 2; rel is the broker's PUBREL.
func two(flags byte, id uint16, payload string) []byte {
	return packet(mqttPublish, flags|4, append(binary.BigEndian.AppendUint16(appendMQTT(nil, "a"), id), payload...)).Data
}

func answer(kind byte, id uint16) []byte {
	return packet(kind, map[bool]byte{true: 2}[kind == mqttPubrel], binary.BigEndian.AppendUint16(nil, id)).Data
}

// What is cut between PUBLISH and PUBCOMP is emitted once, in this process or another.
func TestMQTTExactlyOnce(t *testing.T) {
	const dup = 8
	options := Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines("a 2"), MaxMessage: 100}
	for _, elsewhere := range []bool{false, true} {
		s := newMQTT(options).(*mqtt)
		mqttOpen(t, s, 0, 2)
		again := func(present byte) {
			t.Helper()
			if saved := s.Save(); elsewhere {
				s = newMQTT(options).(*mqtt)
				if err := s.Restore(saved); err != nil {
					t.Fatal(err)
				}
			}
			if got := mqttOpen(t, s, present, 2); got.Resumed != (present == 1) {
				t.Fatalf("resumed: %v", got.Resumed)
			}
		}
		expect := func(what, want string, packets ...[]byte) {
			t.Helper()
			if got := mqttGives(t, s, packets...); got != want {
				t.Errorf("elsewhere %v: %s: got %s, want %s", elsewhere, what, got, want)
			}
		}
		expect("whole", "x (5:7) (7:7)", two(0, 7, "x"), answer(mqttPubrel, 7))
		expect("the identifier of one that is over", "x (5:7)", two(0, 7, "x"))
		again(1)
		expect("PUBREC was lost", "(5:7) (7:7)", two(dup, 7, "x"), answer(mqttPubrel, 7))
		expect("two at once", "y (5:7) z (5:8)", two(0, 7, "y"), two(0, 8, "z"))
		again(1)
		expect("PUBREL was lost", "(7:7)", answer(mqttPubrel, 7))
		expect("the other, without the flag", "(5:8)", two(0, 8, "z"))
		again(1)
		expect("again", "(5:8) (7:8)", two(dup, 8, "z"), answer(mqttPubrel, 8))
		again(1)
		expect("PUBCOMP was lost", "(7:8)", answer(mqttPubrel, 8))
		expect("a new one", "z (5:8)", two(0, 8, "z"))
		again(1)
		expect("what was released by another", "new (5:8)", two(0, 8, "new"))
		expect("too large", "upstream (5:9)", two(0, 9, strings.Repeat("x", 101)))
		again(1)
		expect("too large, again", "(5:9)", two(dup, 9, strings.Repeat("x", 101)))
		expect("far too large", "upstream (5:10)", two(0, 10, strings.Repeat("x", 2*maxMQTTTopic)))
		again(1)
		expect("far too large, again", "(5:10)", two(dup, 10, strings.Repeat("x", 2*maxMQTTTopic)))
		again(0)
		expect("the session is gone, and with it what its identifiers stood for", "new (5:8)", two(dup, 8, "new"))
	}
}

// A broker that never releases what it sends is left.
func TestMQTTUnderWay(t *testing.T) {
	s := mqttSession(t, 100, "", "a 2")
	for id := range uint16(maxMQTTUnder) {
		mqttGives(t, s, two(0, id+1, "x"))
	}
	if _, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: two(0, maxMQTTUnder+1, "x")}); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Error(err)
	}
	s = mqttGranted(t, `{"clientId":"c","cleanSession":false}`)
	for range 2 * maxMQTTUnder {
		if _, err := s.Send(translate.Message{Data: []byte(`{"topic":"a","payload":"","qos":2}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.under) != maxMQTTUnder || len(s.Save()) > translate.MaxSaved {
		t.Errorf("%d are remembered", len(s.under))
	}
}

// What is sent with QoS 2 is completed, also where the connection is cut, and no identifier is used twice meanwhile.
func TestMQTTSendsOnce(t *testing.T) {
	const session = `{"version":5,"clientId":"c"}`
	s := mqttGranted(t, session)
	send := func(qos int) uint16 {
		t.Helper()
		frames, err := s.Send(translate.Message{Data: fmt.Appendf(nil, `{"topic":"a","payload":"x","qos":%d}`, qos)})
		if err != nil || frames[0].Data[0] != byte(0x30|qos<<1) {
			t.Fatalf("%v, %v", frames, err)
		}
		return binary.BigEndian.Uint16(frames[0].Data[5:])
	}
	whole, cut, between := send(2), send(2), send(2)
	if got, want := mqttGives(t, s, answer(mqttPubrec, whole), answer(mqttPubcomp, whole), answer(mqttPubrec, between)), fmt.Sprintf("6:%d 6:%d", whole, between); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	saved := s.Save()
	for _, elsewhere := range []bool{false, true} {
		if elsewhere {
			s = newMQTT(s.Options).(*mqtt)
			if err := s.Restore(saved); err != nil {
				t.Fatal(err)
			}
		}
		s.Open("mqtt")
		got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{1, 0, 0}))
		if err != nil || len(got.Replies) != 2 || !bytes.Equal(got.Replies[0].Data, answer(mqttPubrel, cut)) || !bytes.Equal(got.Replies[1].Data, answer(mqttPubrel, between)) {
			t.Fatalf("%+v, %v", got.Replies, err)
		}
		s.sent = cut - 1
		if id := send(1); id == cut || id == between || id == 1 {
			t.Errorf("the identifier %d is used again", id)
		}
	}
	refused := packet(mqttPubrec, 0, append(binary.BigEndian.AppendUint16(nil, cut), 0x87, 5, propReason, 0, 2, 'n', 'o')).Data
	if got := mqttGives(t, s, refused); got != "a message that was sent is refused with code 135 (0x87): no" || slices.Contains(s.under, cut) {
		t.Error(got)
	}
	if mqttOpen(t, s, 0, 1); len(s.under) != 0 {
		t.Error("what a session that is gone had under way is remembered")
	}
	s.Open("mqtt")
	s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{0, 0, 2, propMaximumQoS, 1}))
	if _, err := s.Send(translate.Message{Data: []byte(`{"topic":"a","payload":"x","qos":2}`)}); err == nil || !strings.Contains(err.Error(), "QoS 1 at the most") {
		t.Error(err)
	}
}

// Another process may have things under way that are not known here.
func TestMQTTSendsAfterAnother(t *testing.T) {
	firsts := map[uint16]bool{}
	for range 5 {
		s := newMQTT(Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines("a 1")}).(*mqtt)
		mqttOpen(t, s, 1, 1)
		firsts[s.number(true)] = true
	}
	if len(firsts) < 3 {
		t.Errorf("all begin alike: %v", firsts)
	}
}

// ofLines is a PUBLISH of MQTT 5 with the identifiers of lines.
func ofLines(qos byte, topic string, filters ...string) []byte {
	body := appendMQTT(nil, topic)
	if qos > 0 {
		body = append(body, 0, byte(len(filters)+1))
	}
	var props []byte
	for _, f := range filters {
		props = appendVarint(append(props, propSubscription), mqttFilter{filter: f}.id())
	}
	body = append(append(appendVarint(body, len(props)), props...), topic...)
	return packet(mqttPublish, qos<<1, body).Data
}

func TestMQTTLinesThatOverlap(t *testing.T) {
	s := newMQTT(Options{Connect: fixed(`{"version":5}`), Subscribe: fixedLines("a/# 1", "a/b 2", "+/b 2", "$share/g/# 2", "c 1")}).(*mqtt)
	open := func(props ...byte) (lines int) {
		t.Helper()
		s.Open("mqtt")
		got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, append([]byte{0, 0, byte(len(props))}, props...)))
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range got.Replies {
			if got.Ready {
				t.Fatal("ready before all is granted")
			}
			n := len(s.asking[uint16(i+1)])
			if got, err = s.Receive(context.Background(), noon, packet(mqttSuback, 0, append([]byte{0, f.Data[3], 0}, make([]byte, n)...))); err != nil {
				t.Fatal(err)
			}
		}
		if !got.Ready {
			t.Fatal("not ready")
		}
		return len(got.Replies) + len(s.filters)
	}
	open()
	for _, c := range []struct {
		topic  string
		copies [][]string
		want   string
	}{
		{"a/b", [][]string{{"a/#"}, {"a/b"}, {"+/b"}, {"$share/g/#"}}, "a/b"},
		{"a/b", [][]string{{"$share/g/#", "+/b", "a/b", "a/#"}}, "a/b"},
		{"x/b", [][]string{{"+/b"}, {"$share/g/#"}}, "x/b"},
		{"c", [][]string{{"$share/g/#"}, {"c"}}, "c"},
		{"d", [][]string{{"$share/g/#"}}, "d"},
		{"a", [][]string{{}}, "a"},
		{"z", [][]string{{"z"}}, "z"}, // a topic that has changed on its way
	} {
		var got []string
		for _, filters := range c.copies {
			if text, _, _ := strings.Cut(mqttGives(t, s, ofLines(1, c.topic, filters...)), " "); !strings.HasPrefix(text, "(") {
				got = append(got, text)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %v: got %v", c.topic, c.copies, got)
		}
	}
	open(propSubscriptions, 0)
	if got := mqttGives(t, s, ofLines(0, "a/b", "a/#")); got != "a/b" {
		t.Errorf("a broker that has no identifiers: %s", got)
	}
	far := append(ofLines(0, "a/b", "a/#")[2:], make([]byte, 2*maxMQTTTopic)...)
	open()
	s.MaxMessage, s.parser.max = 100, 100
	if got := mqttGives(t, s, packet(mqttPublish, 0, far).Data); got != "" {
		t.Errorf("a gap for the copy of a line that is not the foremost: %s", got)
	}
	plain := newMQTT(Options{Connect: fixed(`{"version":5}`), Subscribe: fixedLines("a 1", "b 1")}).(*mqtt)
	if got := mqttOpen(t, plain, 0, 1); !got.Ready || mqttGives(t, plain, ofLines(0, "a", "other")) != "a" {
		t.Error("identifiers of others are taken for ours")
	}
}

func TestMQTTOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a/b", "a", false}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "x", true}, {"+/b", "a/+", true}, {"+/b", "a/c", false},
		{"a/+", "a", false}, {"a/+/#", "a", false}, {"a/+/#", "a/b", true}, {"$share/g/a", "a", true}, {"$share/g/a", "$share/h/a", true}, {"$share/g/a", "g/a", false},
	} {
		a, b := mqttFilter{filter: c.a}, mqttFilter{filter: c.b}
		if a.overlaps(b) != c.want || b.overlaps(a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

// What the broker does not grant is said, once per connection.
func TestMQTTGrantedLess(t *testing.T) {
	s := newMQTT(Options{Connect: fixed(""), Subscribe: fixedLines("a 2")}).(*mqtt)
	if got := mqttOpen(t, s, 0, 1); len(got.Complaints) != 1 || !strings.Contains(got.Complaints[0], "granted with QoS 1 alone") {
		t.Errorf("%q", got.Complaints)
	}
	if got := mqttOpen(t, s, 0, 2); len(got.Complaints) != 0 {
		t.Errorf("%q", got.Complaints)
	}
}

// A client that is overheard has identifiers and a QoS of its own, and answers what comes with QoS 2 itself.
func TestMQTTExactlyOnceOverheard(t *testing.T) {
	o := Options{Connect: fixed(`{"version":5}`), Subscribe: fixedLines("a/# 1", "a/b 1"), MaxMessage: 100}
	s := newMQTT(o).(*mqtt)
	s.Open("mqtt")
	over := newMQTTOverheard(o, []string{"a/# 1", "a/b 1"})
	count := 0
	say := func(p []byte) {
		t.Helper()
		for _, f := range over.Server(Frame{Binary: true, Data: p}) {
			got, err := s.Receive(context.Background(), noon, f)
			if err != nil {
				t.Fatal(err)
			}
			count += len(got.Messages)
		}
	}
	say(packet(mqttConnack, 0, []byte{0, 0, 0}).Data)
	for n := range 2 * maxMQTTUnder {
		body := append(appendMQTT(nil, "a/b"), byte(n>>8), byte(n), 2, propSubscription, 1, 'x')
		say(packet(mqttPublish, 4, body).Data)
	}
	if count != 2*maxMQTTUnder {
		t.Errorf("%d events", count)
	}
}

// A session that bridges nothing, since something came with QoS 0, is still the broker's to complete: what is under way is once, with the gap.
func TestMQTTExactlyOnceLossy(t *testing.T) {
	options := Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines("a 2"), MaxMessage: 100}
	s := newMQTT(options).(*mqtt)
	mqttOpen(t, s, 0, 2)
	mqttGives(t, s, published(0, "a", 0, []byte("zero")), two(0, 7, "x"))
	s.under = []uint16{9}
	saved := s.Save()
	s = newMQTT(options).(*mqtt)
	if err := s.Restore(saved); err != nil {
		t.Fatal(err)
	}
	if got := mqttOpen(t, s, 1, 2); got.Resumed {
		t.Error("it is taken for one that bridges")
	}
	if got := mqttGives(t, s, two(8, 7, "x"), answer(mqttPubrel, 7)); got != "(5:7) (7:7)" || !slices.Equal(s.under, []uint16{9}) {
		t.Errorf("in another process: %s; %v", got, s.under)
	}
}

// What comes again with QoS 2 fills the broker's queue as well: it may be what shows that there was no room.
func TestMQTTFullByWhatComesAgain(t *testing.T) {
	s := newMQTT(Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines("a 2"), MaxMessage: 100}).(*mqtt)
	mqttOpen(t, s, 0, 2)
	mqttGives(t, s, two(0, 1, "x"))
	mqttOpen(t, s, 1, 2)
	for id := range uint16(mqttQueue - 1) {
		mqttGives(t, s, two(0, id+2, "y"), answer(mqttPubrel, id+2))
	}
	if got := mqttGives(t, s, two(8, 1, "x")); got != "upstream (5:1)" {
		t.Errorf("the last one that may be from before comes again: %s", got)
	}
}

// What is too much to be saved must not leave what was saved before in its place.
func TestMQTTSavesNoneOfTooMuch(t *testing.T) {
	var lines []string
	for i := range 600 {
		lines = append(lines, fmt.Sprintf("%s%d 2", strings.Repeat("x", 95), i))
	}
	s := newMQTT(Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines(lines...), MaxMessage: 100}).(*mqtt)
	mqttOpen(t, s, 0, 2)
	if saved := s.Save(); len(saved) < 1000 {
		t.Fatalf("%d bytes are saved", len(saved))
	}
	for id := range uint16(400) {
		mqttGives(t, s, packet(mqttPublish, 4, append(binary.BigEndian.AppendUint16(appendMQTT(nil, s.filters[0].filter), id+1), 'x')).Data)
	}
	saved := s.Save()
	other := newMQTT(s.Options).(*mqtt)
	if err := other.Restore(saved); saved == nil || err != nil || len(saved) > 1000 {
		t.Fatalf("%d bytes, %v", len(saved), err)
	}
	if got := mqttOpen(t, other, 1, 2); got.Resumed {
		t.Error("what is not known bridges")
	}
}

// SUBSCRIBE has no identifier that a message of ours has until its PUBCOMP.
func TestMQTTSubscribesBesideWhatIsUnderWay(t *testing.T) {
	s := newMQTT(Options{Connect: fixed(`{"version":5,"clientId":"c","sessionExpiry":60}`), Subscribe: fixedLines("a 2", "+ 2")}).(*mqtt)
	s.under = []uint16{1, 3}
	s.Open("mqtt")
	got, err := s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{1, 0, 0}))
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint16
	for _, f := range got.Replies {
		if f.Data[0]>>4 == mqttSubscribe {
			ids = append(ids, binary.BigEndian.Uint16(f.Data[2:]))
		}
	}
	if !slices.Equal(ids, []uint16{2, 4}) || len(s.asking[2]) != 1 || len(s.asking[4]) != 1 {
		t.Errorf("subscribes as %v; %v", ids, s.asking)
	}
}

// EMQX's $queue/ is shared as $share/ is: it gives way to any line that has the message all the same.
func TestMQTTQueue(t *testing.T) {
	s := mqttSession(t, 100, `{"version":5}`, "c")
	s.filters, s.numbered = []mqttFilter{{"$queue/a", 1}, {"a", 1}, {"a/#", 1}}, true
	if got := mqttGives(t, s, ofLines(1, "a", "a"), ofLines(1, "a", "a/#"), ofLines(1, "a", "$queue/a")); got != "a (4:2) (4:2) (4:2)" {
		t.Errorf("got %s", got)
	}
	if !overlapping([]mqttFilter{{"$queue/a", 1}, {"a", 1}}) {
		t.Error("$queue/a does not overlap with a")
	}
}
