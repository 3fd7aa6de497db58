// This file is what is asked of ASP.NET SignalR: lines of SUBSCRIBE, and what HELLO and clients send.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	classicSent     = "send-" // before the number of an invocation that had no id
	classicProgress = "P|"    // before the id of an invocation whose progress is said
)

// classicLine is what a line of SUBSCRIBE asks for.
type classicLine struct {
	hub    string
	method string          // that is invoked; "" none
	args   json.RawMessage // a JSON array
}

const (
	classicLineForm = `write Hub, or Hub.Method [arguments as JSON]`
	classicSendForm = `a message to a hub is Hub.Method [arguments as JSON], or {"H":hub,"M":method,"A":[..]}`
)

// parseClassicLine reads a line of SUBSCRIBE.
func parseClassicLine(line string) (l classicLine, err error) {
	word, rest := cutWord(line)
	hub, method, dotted := strings.Cut(word, ".")
	l = classicLine{hub: hub, method: method, args: json.RawMessage("[]")}
	switch {
	case hub == "" || strings.ContainsAny(word, `[]{}"`):
		return l, errors.New("has no hub; " + classicLineForm)
	case dotted && (method == "" || strings.Contains(method, ".")):
		return l, errors.New("has no method after the hub's dot, or more than one dot; " + classicLineForm)
	case rest != "" && !dotted:
		return l, errors.New("has arguments and no method; " + classicLineForm)
	}
	if rest != "" {
		l.args = json.RawMessage(rest)
	}
	if l.args[0] != '[' || !json.Valid(l.args) {
		return l, errors.New("has arguments that are no JSON array; " + classicLineForm)
	}
	return l, nil
}

func checkSignalRClassic(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		if _, err := parseClassicLine(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// invoke asks for what SUBSCRIBE invokes.
func (s *signalRClassic) invoke(got *Received) {
	for i, l := range s.lines {
		if l.method != "" {
			id := hubSubscription + strconv.Itoa(i+1)
			s.waiting[id] = l.hub + "." + l.method
			got.Replies = append(got.Replies, l.frame(id))
		}
	}
}

// frame invokes under an id.
func (l classicLine) frame(id string) Frame {
	return jsonFrame(map[string]any{"H": l.hub, "M": l.method, "A": l.args, "I": id})
}

// Send takes a method with its arguments, or a record; for a persistent connection any text.
func (s *signalRClassic) Send(m translate.Message) ([]Frame, error) {
	if !utf8.Valid(m.Data) {
		return nil, errors.New("ASP.NET SignalR takes text alone")
	}
	if s.data == "" {
		return []Frame{{Data: bytes.Clone(m.Data)}}, nil
	}
	text := bytes.TrimSpace(m.Data)
	if len(text) > 0 && text[0] == '{' {
		return s.sendRecord(text)
	}
	l, err := parseClassicLine(string(text))
	if err != nil || l.method == "" {
		return nil, errors.New(classicSendForm)
	}
	return []Frame{l.frame(s.sentID())}, nil
}

// sentID is one for an invocation that has none.
func (s *signalRClassic) sentID() string {
	s.calls++
	return classicSent + strconv.Itoa(s.calls)
}

func (s *signalRClassic) sendRecord(text []byte) ([]Frame, error) {
	var r map[string]json.RawMessage
	if json.Unmarshal(text, &r) != nil || jsonText(r["H"]) == "" || jsonText(r["M"]) == "" {
		return nil, errors.New(classicSendForm)
	}
	if args := r["A"]; len(args) > 0 && args[0] != '[' {
		return nil, errors.New(classicSendForm)
	}
	record := map[string]any{}
	for name, value := range r {
		record[name] = value
	}
	if id := r["I"]; len(id) == 0 || string(id) == "null" {
		record["I"] = s.sentID()
	}
	return []Frame{jsonFrame(record)}, nil
}
