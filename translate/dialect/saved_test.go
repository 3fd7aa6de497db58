package dialect

import (
	"errors"
	"testing"

	"sidestream/translate"
)

// What is saved for a session that keeps nothing is nothing.
func TestNothingToSave(t *testing.T) {
	for _, d := range Table {
		if d.Name == "sockjs" {
			continue // which wraps another
		}
		if saved := d.New(Options{}).Save(); saved != nil {
			t.Errorf("%s saves %q before it has begun", d.Name, saved)
		}
	}
	if err := (Base{}).Restore([]byte("x")); !errors.Is(err, translate.ErrSaved) {
		t.Errorf("%v", err)
	}
}

// FuzzRestore: whatever stands in a history, a session is restored or refuses it, and saves what it has taken.
func FuzzRestore(f *testing.F) {
	s := sioSession(f, 0, "/")
	sioSay(f, s, `42["a",1,"1700000000001-0"]`)
	f.Add(s.Save())
	c := cableSession(`{"channel":"A"}`)
	c.Restore(fieldsOf("1700000000", "1700000000000", "sid", "true", `{"channel":"A"}`, "stream", "epoch", string(fieldsOf("7", "8"))))
	f.Add(c.Save())
	f.Add(fieldsOf("x", "e", "7"))
	f.Add(fieldsOf("", ""))
	f.Add(fieldsOf(""))
	f.Add(fieldsOf("id", "7", "2", "true", "subscribe-1"))
	f.Add(fieldsOf("/A/a", "2026-11-29T16:45:05Z", "7"))
	f.Add(fieldsOf("t", "d-1-A,7", "g", "1700000000", "30000", "20000"))
	f.Add(fieldsOf("id", "t", "3", "7"))
	m := newMQTT(Options{Connect: fixed(`{"clientId":"c","cleanSession":false}`), Subscribe: fixedLines("a 2")}).(*mqtt)
	mqttOpen(f, m, 0, 2)
	mqttGives(f, m, two(0, 7, "x"))
	m.under = []uint16{8}
	f.Add(m.Save())
	lines := map[string]string{"mqtt": "a 2", "socket.io": "/", "actioncable": `{"channel":"A"}`, "signalr": "A", hubPacked: "A", classicName: "A", pubSubName: "a", "centrifuge": "x", "nats": `a {"stream":"A"}`}
	f.Fuzz(func(t *testing.T, saved []byte) {
		for _, name := range []string{"socket.io", "actioncable", "signalr", hubPacked, classicName, pubSubName, "centrifuge", "nats", "mqtt"} {
			d, err := Find(name)
			if err != nil {
				t.Fatal(err)
			}
			session := d.New(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h/"}, nil }, Connect: func() (string, error) { return "", nil },
				Subscribe: func() ([]string, error) { return []string{lines[name]}, nil }})
			if session.Restore(saved) == nil {
				session.Save()
				session.Dial(nil)
				session.Open("actioncable-v1-ext-json")
			}
		}
		new(translate.State).Restore(saved)
	})
}

func fieldsOf(fields ...string) (saved []byte) {
	for _, f := range fields {
		saved = translate.AppendField(saved, f)
	}
	return saved
}
