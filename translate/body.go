// This file decides what a body that never ends is made of, in the one place where that is decided:
//
//   - FORMAT, where it is set.
//   - Else the media type, where it leaves no doubt: text/event-stream, the names of newline-delimited JSON, multipart, HTML.
//   - Else the first bytes: a field of an event, a brace or bracket of JSON, a page of HTML. application/json may be one value a
//     line, or values one right after the other or indented, and some services give even events that type. Anything else is
//     lines of text.
//
// A byte order mark in front decides nothing, nor does white space, which keeps connections alive.

package translate

import (
	"bytes"
	"mime"
	"strings"
	"time"

	"sidestream/translate/sse"
)

// What a stream's body may be made of (FORMAT).
const (
	FormatEvents = "sse"   // text/event-stream
	FormatLines  = "lines" // a record a line
	FormatJSON   = "json"  // JSON values one after the other, whatever white space is in them and between them
)

// lineTypes are the media types of newline-delimited JSON, and of JSON text sequences (RFC 7464).
var lineTypes = map[string]bool{"application/x-ndjson": true, "application/ndjson": true, "application/jsonl": true, "application/x-jsonl": true,
	"application/jsonlines": true, "application/x-jsonlines": true, "application/json-lines": true, "application/json-seq": true, "application/stream+json": true}

// Records takes apart a body that never ends: events of text/event-stream, or lines. It is not safe for concurrent use.
type Records interface {
	// Next takes the next bytes, whose memory is the caller's again afterwards, and returns the messages that are
	// complete with them. One that is too large is left out, and is a gap.
	Next(p []byte) []Message
	// End takes the proper end of the body, and returns the messages that are complete with it.
	End() []Message
	// Retry is how long the body asks to wait before it is requested again; 0 when it does not.
	Retry() time.Duration
}

// Body takes apart a body that never ends. It is not safe for concurrent use.
type Body struct {
	json    bool // the type speaks of JSON
	max     int
	decided Records // nil: not yet
	page    bool
	head    []byte // what has arrived before the decision, without white space in front
	begun   bool   // what may be a byte order mark has been passed

	verbatim bool   // see NewVerbatimBody
	lastID   string // see GoOn
}

// NewBody reads a body with this Content-Type; format, if not empty, is one of the Format constants and decides. max bounds one
// record, in bytes.
func NewBody(contentType, format string, max int) *Body {
	b := &Body{max: max}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		media = ""
	}
	b.json = media == "application/json" || strings.HasSuffix(media, "+json")
	switch {
	case format != "":
		b.decided = recordsOf(format, max)
	case media == sse.ContentType:
		b.decided = newEventRecords(max)
	case lineTypes[media]:
		b.decided = newLineRecords(max)
	case strings.HasPrefix(media, "multipart/") && params["boundary"] != "":
		b.decided = newPartRecords(params["boundary"], max)
	default:
		b.page = IsPage(contentType)
	}
	_, b.begun = b.decided.(eventRecords) // whose decoder passes one itself, and no second one
	return b
}

// NewVerbatimBody is NewBody for who reads events as they were written: one called message keeps that name, and one that the proper end of the body
// completes, rather than a blank line, counts.
func NewVerbatimBody(contentType, format string, max int) *Body {
	b := NewBody(contentType, format, max)
	b.verbatim = true
	if b.decided != nil {
		b.decided = b.verbatimly(b.decided)
	}
	return b
}

// verbatimly has records of events be read as they were written.
func (b *Body) verbatimly(r Records) Records {
	if events, ok := r.(eventRecords); ok && b.verbatim {
		events.Decoder.Verbatim()
		return verbatimRecords{events}
	}
	return r
}

// IsEvents reports whether a body with this Content-Type is a stream of records, and nothing else: events, or lines of JSON.
func IsEvents(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == sse.ContentType || lineTypes[media])
}

// IsStream reports whether a body with this Content-Type may be a stream, whatever its first bytes.
func IsStream(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == sse.ContentType || lineTypes[media] || media == "application/json" || strings.HasSuffix(media, "+json") || strings.HasPrefix(media, "multipart/"))
}

// IsPage reports whether a body with this Content-Type is a page for people to read.
func IsPage(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "text/html" || media == "application/xhtml+xml")
}

func recordsOf(format string, max int) Records {
	switch format {
	case FormatEvents:
		return newEventRecords(max)
	case FormatJSON:
		return newJSONRecords(max)
	}
	return newLineRecords(max)
}

// Page reports whether the body has turned out to be a page of HTML, of which no records are made.
func (b *Body) Page() bool { return b.page }

// GoOn begins the body after the event with this id, which is the last one until the body has another: a body that was cut before its first event, or
// that is none of events, has not taken it back. It is called before any byte.
func (b *Body) GoOn(id string) {
	b.lastID = id
	if b.decided != nil {
		goOn(b.decided, id)
	}
}

func goOn(r Records, id string) {
	if events, ok := r.(interface{ GoOn(id string) }); ok {
		events.GoOn(id)
	}
}

// LastID is that of [Records], or where they have none that of GoOn.
func (b *Body) LastID() string {
	if events, ok := b.decided.(interface{ LastID() string }); ok {
		return events.LastID()
	}
	return b.lastID
}

// Retry is that of [Records].
func (b *Body) Retry() time.Duration {
	if b.decided == nil {
		return 0
	}
	return b.decided.Retry()
}

// Next is that of [Records].
func (b *Body) Next(p []byte) []Message {
	if b.page {
		return nil
	}
	if b.begun && b.decided != nil {
		return b.decided.Next(p)
	}
	b.head = append(b.head, p...)
	if !b.begun && len(b.head) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, b.head) {
		return nil
	}
	return b.decide(false)
}

// End is that of [Records].
func (b *Body) End() []Message {
	if b.page {
		return nil
	}
	out := b.decide(true)
	if b.decided == nil {
		return out
	}
	return append(out, b.decided.End()...)
}

var byteOrderMark = []byte("\uFEFF")

// decide looks at the head. last: no more of it will come.
func (b *Body) decide(last bool) []Message {
	if !b.begun {
		b.begun = true
		b.head = bytes.TrimPrefix(b.head, byteOrderMark)
	}
	if b.decided == nil {
		b.head = bytes.TrimLeft(b.head, " \t\r\n")
		format, page, sure := sniff(b.head, b.json, last)
		if b.page = page; page || !sure {
			return nil
		}
		b.decided = b.verbatimly(recordsOf(format, b.max))
		goOn(b.decided, b.lastID)
	}
	head := b.head
	b.head = nil
	return b.decided.Next(head)
}

// pageStarts are how pages begin, in lower case.
var pageStarts = []string{"<!doctype html", "<html"}

// sniff decides by the first bytes after white space. sure is false when more of them are needed.
func sniff(head []byte, json, last bool) (format string, page, sure bool) {
	if len(head) == 0 {
		return "", false, false
	}
	begins := func(start string) (yes, maybe bool) {
		n := min(len(head), len(start))
		same := strings.EqualFold(string(head[:n]), start[:n])
		return same && n == len(start), same && n < len(start) && !last
	}
	switch head[0] {
	case '{', '[', 0x1e:
		return FormatJSON, false, true
	case ':':
		return FormatEvents, false, true
	}
	for _, start := range pageStarts {
		if yes, maybe := begins(start); yes || maybe {
			return "", yes, yes
		}
	}
	for _, field := range []string{"data", "event", "id", "retry"} {
		if len(head) > len(field) && string(head[:len(field)]) == field && strings.IndexByte(":\r\n", head[len(field)]) >= 0 {
			return FormatEvents, false, true
		}
		if len(head) <= len(field) && strings.HasPrefix(field, string(head)) && !last {
			return "", false, false
		}
	}
	if json {
		return FormatJSON, false, true
	}
	return FormatLines, false, true
}
