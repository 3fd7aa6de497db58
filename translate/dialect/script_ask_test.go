package dialect

import (
	"bytes"
	"testing"
	"time"
)

// asks is a step that asks for address.
func asks(address string) Step {
	return Step{Ask: func(value func(string) string) (*HTTPRequest, error) {
		return &HTTPRequest{Method: "POST", URL: address + value("state.id")}, nil
	}}
}

func TestAsking(t *testing.T) {
	s := script(t, "= .\n= .\n= $answer", "", "")
	s.Steps = append([]Step{{Wait: compiled(t, "HELLO", ".id")}, asks("http://h/")}, s.Steps...)
	s.Capture = compiled(t, "STATE", "select(.id)|{id}")
	d, _ := Find("raw")
	session, ok := s.Wrap(d.New(Options{Separator: "\n"})).(Asking)
	if !ok {
		t.Fatal("a script does not ask")
	}
	for range 2 { // nothing of one connection is left on the next
		if _, err := session.Open(""); err != nil || session.Request() != nil {
			t.Fatal(err, session.Request())
		}
		// The second message of the frame comes while the request is not made yet.
		got, err := session.Receive(t.Context(), time.Time{}, Frame{Data: []byte("{\"id\":7}\n{\"news\":1}")})
		r := session.Request()
		if err != nil || r == nil || r.URL != "http://h/7" || got.Ready || len(got.Messages) != 1 || len(got.Replies) > 0 {
			t.Fatalf("%+v %v %+v", got, err, r)
		}
		got, err = session.Answered(&HTTPResponse{Status: 200, Body: []byte(" {\"n\":9007199254740993}\n")})
		if err != nil || !got.Ready || session.Request() != nil || session.Timers().Opening != 0 {
			t.Fatalf("%+v %v", got, err)
		}
		want := []string{`{"n":9007199254740993}`, "null", `{"n":9007199254740993}`} // the answer is the input of one line
		for i, f := range got.Replies {
			if i >= len(want) || string(bytes.TrimSpace(f.Data)) != want[i] {
				t.Errorf("reply %d: %s", i, f.Data)
			}
		}
		if len(got.Replies) != len(want) {
			t.Errorf("%d replies", len(got.Replies))
		}
	}
	if _, err := session.Open(""); err != nil {
		t.Fatal(err)
	}
	if got, err := session.Receive(t.Context(), time.Time{}, Frame{Data: []byte(`{"id":"x"}`)}); err != nil || got.Ready {
		t.Fatal(got, err)
	}
	if _, err := session.Answered(&HTTPResponse{Status: 200, Body: []byte("<html>")}); err == nil || err.Error() != "HELLO line 2: the answer is not JSON" {
		t.Error(err)
	}
}

// Answers are seen by programs over messages too.
func TestAnswersAreSeen(t *testing.T) {
	s := script(t, "", `select(.give)|$answer.a`, "")
	s.Steps = []Step{asks("http://h/")}
	session, _ := rawSession(t, s, "").(Asking)
	if _, err := session.Open(""); err != nil || session.Request() == nil {
		t.Fatal(err)
	}
	if _, err := session.Answered(&HTTPResponse{Body: []byte(`{"a":"b"}`)}); err != nil {
		t.Fatal(err)
	}
	got, err := session.Receive(t.Context(), time.Time{}, Frame{Data: []byte(`{"give":1}`)})
	if err != nil || len(got.Replies) != 1 || string(got.Replies[0].Data) != "b" {
		t.Errorf("%+v %v", got, err)
	}
}
