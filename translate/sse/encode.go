// This file writes text/event-stream (HTML Living Standard, 9.2 Server-sent events). Its rules, each forced by a real client:
//
//   - LF only. Data is split on CR, LF and CRLF, one "data: " line each; a parser would end the line there anyway.
//   - A blank line stands only after an event that has data: several client libraries deliver an empty message for
//     every other one. So a heartbeat is ":\n" and a retry hint is a line of its own.
//   - Every event repeats its id: Firefox and WebKit forget an id whose block has no data.
//   - The id is the last line of a block: fetch-event-source 2.0.1 and eventsource 2.0.2 take an id at its line, so a cut
//     after it and before the data would resume after an event that was never delivered.
//   - An answer to an EventSource begins with a block that takes in what may be left of the one before, see [AppendCut].
//   - No field can hold what ends it: CR, LF and NUL are cut from names, ids are of a small alphabet.
//   - Names that EventSource or Sidestream use themselves are reserved: from upstream they get a leading "_".

package sse

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ContentType is the media type of an event stream.
const ContentType = "text/event-stream"

// Heartbeat is what an idle stream is kept alive with: a comment without text and without a blank line.
const Heartbeat = ":\n"

// HeartbeatEvent is the name of a heartbeat that scripts can see.
const HeartbeatEvent = "stream.heartbeat"

const (
	maxID   = 128 // bytes; longer ids make a preflight necessary or break header setters
	maxName = 256 // bytes of an event name
)

// AppendEvent appends an event to dst under id, which must be valid (see [ValidID]); an empty id leaves the client's own as
// it is. Whatever bytes name and data hold, they stay inside their field.
func AppendEvent(dst []byte, id, name string, data []byte) []byte {
	return appendBlock(dst, id, cleanName(name), data)
}

// AppendVerbatim is AppendEvent with the name as it is, but for names of the sidecar's own events, and what ends a line. A page's EventSource takes an
// event called error or open for its own.
func AppendVerbatim(dst []byte, id, name string, data []byte) []byte {
	clean := strings.TrimPrefix(cleanName("_"+name), "_")
	if slices.Contains(own, clean) {
		clean = "_" + clean
	}
	if len(data) > 0 {
		return appendBlock(dst, id, clean, data)
	}
	if clean != "" {
		dst = append(append(append(dst, "event: "...), clean...), '\n')
	}
	dst = append(dst, "data:\n"...) // without a blank, which @urql/core 6.0.3 reads as JSON
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	return append(dst, '\n')
}

const gapEvent = "stream.gap"

// gapBegin is what a gap begins with.
var gapBegin = []byte("event: " + gapEvent + "\n")

// own are the names of the sidecar's own events.
var own = []string{gapEvent, "stream.refused", "stream.busy", "stream.open", "stream.cut", "stream.end", HeartbeatEvent}

// AppendGap appends a stream.gap event. reason is part of JSON and must be a plain word; missed is the number of events lost,
// negative when unknown.
func AppendGap(dst []byte, id, reason string, missed int64) []byte {
	data := append(append([]byte(`{"reason":"`), reason...), `","missed":`...)
	if missed < 0 {
		data = append(data, "null}"...)
	} else {
		data = append(strconv.AppendInt(data, missed, 10), '}')
	}
	return appendBlock(dst, id, gapEvent, data)
}

// IsGap reports whether a whole event is a gap: one by [AppendGap], or by [AppendNotice] with its name. A line by [AppendMark] may stand before it.
func IsGap(event []byte) bool {
	if len(event) > 0 && event[0] == ':' {
		event = event[bytes.IndexByte(event, '\n')+1:]
	}
	return bytes.HasPrefix(event, gapBegin)
}

// AppendRefused appends a stream.refused event: the upstream will not serve this stream any more, for the reason that
// the HTTP status gives.
func AppendRefused(dst []byte, id string, status int) []byte {
	return appendBlock(dst, id, "stream.refused", append(strconv.AppendInt([]byte(`{"status":`), int64(status), 10), '}'))
}

// AppendBusy appends a stream.busy event: there is no room now, come back later. id is the client's own last id; one
// that is not valid is left out, which leaves it to the client unchanged.
func AppendBusy(dst []byte, id string) []byte {
	if !ValidID(id) {
		id = ""
	}
	return appendBlock(dst, id, "stream.busy", []byte("{}"))
}

// AppendOpen appends a stream.open event: a client that came without an id, and for which there is no event yet, stands at
// id. Without it the events until its first one would be lost to it, unreported, if it was disconnected meanwhile.
func AppendOpen(dst []byte, id string) []byte {
	return appendBlock(dst, id, "stream.open", []byte("{}"))
}

// AppendCut appends what the answer to a client begins with that may have kept half an event of its last answer. WebKit's
// EventSource (WebKitGTK 2.50.6) joins that to the first bytes of the next one, and npm eventsource 2.0.2 joins its lines.
// The colon and the line end complete a half line, the rest takes the block in: an event that no page listens for, with the
// id that the client came with. Where nothing is left over it is a block without data, which an EventSource drops; an id
// that is not valid becomes an empty one, for half an id may have been left. A retry hint goes after it, not before.
//
// Clients that read the stream by fetch are not to get it: @microsoft/fetch-event-source 2.0.1 delivers a message for it.
func AppendCut(dst []byte, id string) []byte {
	if !ValidID(id) {
		return append(dst, ":\nevent: stream.cut\nid:\n\n"...)
	}
	return append(append(append(dst, ":\nevent: stream.cut\nid: "...), id...), "\n\n"...)
}

// AppendHeartbeat appends a heartbeat as an event, for clients that asked for it: {"every":ms} is when the next one is
// due if nothing else comes. id is where the client stands; "" leaves that as it is.
func AppendHeartbeat(dst []byte, id string, every time.Duration) []byte {
	data := strconv.AppendInt([]byte(`{"every":`), every.Milliseconds(), 10)
	return appendBlock(dst, id, HeartbeatEvent, append(data, '}'))
}

// AppendNotice appends an event of the sidecar's own. Its name begins with "stream." and, as data, which is one line, is the sidecar's.
func AppendNotice(dst []byte, id, name string, data []byte) []byte {
	return appendBlock(dst, id, name, data)
}

// AppendMark appends a comment, one line, that says something about the event which is appended next.
func AppendMark(dst []byte, mark string) []byte {
	return append(append(append(dst, ": "...), mark...), '\n')
}

// AppendRetry appends a hint: how long the client is to wait before it reconnects, in whole milliseconds.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	return append(strconv.AppendInt(dst, d.Milliseconds(), 10), '\n')
}

// ValidID reports whether id may stand in an id: line and come back in a header or a query as it is: 1 to 128 bytes of
// [A-Za-z0-9._~:-].
func ValidID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && strings.IndexByte("._~:-", c) < 0 {
			return false
		}
	}
	return true
}

func appendBlock(dst []byte, id, name string, data []byte) []byte {
	if name != "" {
		dst = append(append(append(dst, "event: "...), name...), '\n')
	}
	dst = appendData(dst, data)
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	return append(dst, '\n')
}

func appendData(dst, data []byte) []byte {
	if !utf8.Valid(data) {
		data = bytes.ToValidUTF8(data, []byte("\uFFFD"))
	}
	for {
		end := bytes.IndexAny(data, "\r\n")
		if end < 0 {
			return append(append(append(dst, "data: "...), data...), '\n')
		}
		dst = append(append(append(dst, "data: "...), data[:end]...), '\n')
		if data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n' {
			end++
		}
		data = data[end+1:]
	}
}

// cleanName makes a name from upstream harmless: one line, valid UTF-8, bounded, not one that is reserved.
func cleanName(name string) string {
	if strings.ContainsAny(name, "\r\n\x00") {
		name = strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(name)
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	if name == "error" || name == "open" || strings.HasPrefix(name, "stream.") {
		return "_" + name
	}
	return name
}
