// This file reads text/event-stream (HTML Living Standard, 9.2.6 Interpreting an event stream). Other than there, an event has the id
// of its own field or none: an id that is only inherited from an earlier event would be given out twice.

package sse

import (
	"bytes"
	"strconv"
	"time"

	"sidestream/translate/lines"
)

// Event is one event of a stream.
type Event struct {
	Name string // "" for none, and for "message", which means the same
	ID   string // of a field of its own; "" none
	Data []byte // lines joined with LF; the event's own memory

	// TooLarge reports that the event was over the decoder's bound. Nothing else of it is set.
	TooLarge bool
}

// Decoder reads events from a body that arrives in pieces. It holds one event at most, of bounded size. It is not safe for concurrent
// use.
type Decoder struct {
	lines  lines.Splitter
	begun  bool // what may be a byte order mark has been passed
	max    int
	data   []byte
	has    bool // there was a data field
	over   bool // the event is too large
	event  string
	id     string
	ided   bool // it has an id field
	lastID string
	retry  time.Duration
	names  bool // of events are kept as they are
}

// Verbatim has an event that is called message keep its name: clients that read the stream by hand tell it from one without.
func (d *Decoder) Verbatim() { d.names = true }

const (
	fieldRoom = 16      // bytes that a line may hold beside a value: the name of its field
	maxReadID = 1 << 10 // bytes; a longer id is ignored, as it could not be sent back
)

// NewDecoder returns a decoder of which one event may have max bytes.
func NewDecoder(max int) *Decoder {
	return &Decoder{max: max, lines: lines.Splitter{Max: max + fieldRoom, CR: true}}
}

// GoOn begins the stream after the event with this id, as one that is asked for again does: it stays the last id until the stream has another.
func (d *Decoder) GoOn(id string) { d.lastID = id }

// LastID is the last id of the stream, for Last-Event-ID; "" none.
func (d *Decoder) LastID() string { return d.lastID }

// Retry is how long the stream asks to wait before a reconnect; 0 when it does not.
func (d *Decoder) Retry() time.Duration { return d.retry }

// Decode takes the next bytes and calls emit with each event that is complete with them. An event that the end of the body cuts short
// is none, so there is nothing to call at the end. p is the caller's again afterwards.
func (d *Decoder) Decode(p []byte, emit func(Event)) {
	d.lines.Split(p, func(line []byte, over bool) {
		if !d.begun {
			d.begun = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		switch {
		case over:
			d.over = true
		case len(line) > 0:
			d.field(line)
		default:
			d.dispatch(emit)
		}
	})
}

func (d *Decoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(d.data)+len(value)+1 > d.max+1 {
			d.over, d.data = true, nil
			return
		}
		if d.has = true; !d.over {
			d.data = append(append(d.data, value...), '\n')
		}
	case "event":
		d.event = string(value[:min(len(value), d.max)])
	case "id":
		if bytes.IndexByte(value, 0) < 0 && len(value) <= maxReadID {
			d.id, d.ided = string(value), true
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			d.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// dispatch ends what the lines so far have made, which is no event without data.
func (d *Decoder) dispatch(emit func(Event)) {
	var e Event
	if d.ided {
		d.lastID, e.ID = d.id, d.id
	}
	over, has := d.over, d.has
	if has && !over {
		e.Data, e.Name = d.data[:len(d.data)-1], d.event
	}
	if e.Name == "message" && !d.names {
		e.Name = ""
	}
	d.data, d.has, d.over, d.event, d.id, d.ided = nil, false, false, "", "", false
	switch {
	case over:
		emit(Event{TooLarge: true})
	case has:
		emit(e)
	}
}
