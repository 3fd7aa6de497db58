package dialect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"sidestream/translate"
)

// What is kept of the documents of a session, each of MAX_MESSAGE at most. All of them, and what is told of those before, have to fit into what a connection may
// bring before it is ready.
const (
	maxDDPDocuments = 8000
	maxDDPTimes     = 16       // bytes of all their events, in MAX_MESSAGE
	maxDDPBytes     = 12 << 20 // the same, whatever MAX_MESSAGE is
	maxDDPFields    = 400000   // of all of them, since a field takes far more memory than its bytes
	maxDDPName      = 400      // bytes of a collection and an id
)

// ddpMessage is any message of the server's.
type ddpMessage struct {
	Msg        string
	ID         gqlID
	Collection string
	Fields     map[string]json.RawMessage
	Cleared    []string
	Subs       []string
	Error      json.RawMessage
	Reason     string
}

// ddpName is what a document is known by.
type ddpName struct{ collection, id string }

// ddpDocument is a document of the server's, as far as it publishes it.
type ddpDocument struct {
	ddpName
	fields  map[string]json.RawMessage
	cleared []string // of one that is not kept
	size, n int      // bytes of its event; which one of those that were added it is
}

// ddpDocuments are those that a connection has told of.
type ddpDocuments struct {
	all    map[ddpName]*ddpDocument
	size   int // bytes of their events
	fields int
	n      int // that were ever added
}

func (d *ddpDocuments) find(name ddpName) *ddpDocument { return d.all[name] }

// inOrder are the documents as they came.
func (d *ddpDocuments) inOrder() []*ddpDocument {
	return slices.SortedFunc(maps.Values(d.all), func(a, b *ddpDocument) int { return a.n - b.n })
}

// names are what they are known by, in the same order.
func (d *ddpDocuments) names() (names []ddpName) {
	for _, one := range d.inOrder() {
		names = append(names, one.ddpName)
	}
	return names
}

// most is the bound of a document, in bytes.
func (s *ddp) most() int { return cmp.Or(s.MaxMessage, defaultBounds) }

// take notes what has become of a document, and returns what is to be told of it.
func (d *ddpDocuments) take(m ddpMessage, most int) (*ddpDocument, error) {
	name := ddpName{m.Collection, string(m.ID)}
	was := d.find(name)
	if m.Msg == "removed" {
		d.drop(was)
		return &ddpDocument{ddpName: name}, nil
	}
	if m.Msg == "changed" && was == nil {
		return &ddpDocument{ddpName: name, fields: m.Fields, cleared: m.Cleared}, nil
	}
	now := &ddpDocument{ddpName: name, fields: map[string]json.RawMessage{}}
	if was != nil && m.Msg == "changed" {
		maps.Copy(now.fields, was.fields)
	}
	for _, field := range m.Cleared {
		delete(now.fields, field)
	}
	for field, value := range m.Fields {
		now.fields[field] = bytes.Clone(value)
	}
	now.size = now.bytes()
	if was != nil {
		now.n = was.n
		d.drop(was)
	} else {
		d.n++
		now.n = d.n
	}
	size := min(maxDDPTimes*most, maxDDPBytes)
	switch {
	case len(name.collection)+len(jsonString(name.id)) > maxDDPName:
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("SUBSCRIBE: a document has a collection and id of more than %d bytes; subscribe to others", maxDDPName))
	case now.size > most:
		return nil, refuse(http.StatusBadRequest, "SUBSCRIBE: a document is larger than MAX_MESSAGE; subscribe to fewer fields, or raise MAX_MESSAGE")
	case len(d.all) >= maxDDPDocuments || d.size+now.size > size || d.fields+len(now.fields) > maxDDPFields:
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("SUBSCRIBE: there are more than %d documents, or more than %d bytes or %d fields of them; subscribe to fewer", maxDDPDocuments, size, maxDDPFields))
	}
	if d.all == nil {
		d.all = map[ddpName]*ddpDocument{}
	}
	d.all[name] = now
	d.size += now.size
	d.fields += len(now.fields)
	return now, nil
}

// drop forgets one, if there is one.
func (d *ddpDocuments) drop(was *ddpDocument) {
	if was != nil {
		d.size -= was.size
		d.fields -= len(was.fields)
		delete(d.all, was.ddpName)
	}
}

// bytes are at least those of its event.
func (d *ddpDocument) bytes() int {
	n := len("added") + len(d.collection) + len(`{"fields":{},"id":}`) + len(jsonString(d.id))
	for name, value := range d.fields {
		n += len(jsonString(name)) + len(value) + len(":,")
	}
	return n
}

// message is the event that tells what has become of a document.
func (d *ddpDocument) message(kind string) translate.Message {
	data := map[string]any{"id": d.id}
	if kind != "removed" {
		fields := d.fields
		if fields == nil {
			fields = map[string]json.RawMessage{}
		}
		data["fields"] = fields
	}
	if len(d.cleared) > 0 {
		data["cleared"] = d.cleared
	}
	return translate.Message{Event: kind, Topic: d.collection, Data: jsonFrame(data).Data}
}

// ddpCall is a frame that calls a method.
func ddpCall(id, method string, params []json.RawMessage) Frame {
	return jsonFrame(map[string]any{"msg": "method", "id": id, "method": method, "params": params})
}

const ddpLineForm = `write a publication and its parameters as JSON: stream-room-messages ["ROOM",false]`

// ddpSubscription reads a line: a name, and a list of parameters.
func ddpSubscription(line string) (name string, params []json.RawMessage, err error) {
	name, rest := cutWord(line)
	if name == "" || name[0] == '{' || name[0] == '[' || name[0] == '"' {
		return "", nil, errors.New("has no name; " + ddpLineForm)
	}
	if rest == "" {
		return name, []json.RawMessage{}, nil
	}
	if json.Unmarshal([]byte(rest), &params) != nil || params == nil {
		return "", nil, errors.New("has no list of parameters after the name; " + ddpLineForm)
	}
	return name, params, nil
}

// ddpConnect is CONNECT, the parameter of the method login; nil when it is unset.
func ddpConnect(connect string) (json.RawMessage, error) {
	login, err := gqlConnect(connect)
	if err != nil {
		return nil, errors.New(`is not a JSON object; write what the method login takes, {"resume":"token"} or {"user":{"username":".."},"password":{"digest":"..","algorithm":"sha-256"}}`)
	}
	return login, nil
}

func checkDDP(connect string, lines []string) error {
	var problems []error
	if _, err := ddpConnect(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		if _, _, err := ddpSubscription(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
