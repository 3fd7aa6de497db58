// This file is what the dialects have in common: bounds, the words of their settings and errors, addresses, and what becomes of
// binary payloads.

package dialect

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
	"sidestream/translate/decode"
)

const (
	openingTime   = 10 * time.Second // for each step of an opening
	defaultBounds = 1 << 20          // where Options.MaxMessage is not set, for dialects that need a bound
)

// refuse is the error of a refusal, with the HTTP status for the client, 400 to 499. The reason is for logs and holds no secret.
func refuse(status int, reason string) error {
	return &translate.Refused{Status: status, Reason: reason}
}

// refuseLine refuses a line of SUBSCRIBE, of which Check could not see the values that clients insert. Lines count from 1.
func refuseLine(line int, err error) error {
	return refuse(http.StatusBadRequest, fmt.Sprintf("SUBSCRIBE: line %d: %v", line, err))
}

// badConnect and badLine make the errors of a dialect's Check; lines count from 1.
func badConnect(format string, args ...any) error {
	return &CheckError{"CONNECT", fmt.Sprintf(format, args...)}
}

func badLine(line int, format string, args ...any) error {
	return &CheckError{"SUBSCRIBE", fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...)}
}

// SplitLines returns the lines of CONNECT or SUBSCRIBE that hold something, without the blanks around them.
func SplitLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// cutWord splits a line at its first blanks.
func cutWord(line string) (word, rest string) {
	line = strings.TrimSpace(line)
	if blank := strings.IndexAny(line, " \t\r\n"); blank >= 0 {
		return line[:blank], strings.TrimSpace(line[blank:])
	}
	return line, ""
}

// parseTopicLine reads a topic and the JSON object after it, {} when there is none. form tells what to write instead.
func parseTopicLine(line, form string) (topic string, object json.RawMessage, err error) {
	topic, rest := cutWord(line)
	if topic == "" || topic[0] == '{' || topic[0] == '[' {
		return "", nil, errors.New("has no topic; " + form)
	}
	if rest == "" {
		return topic, json.RawMessage("{}"), nil
	}
	if rest[0] != '{' || !json.Valid([]byte(rest)) {
		return "", nil, errors.New("has no JSON object after the topic; " + form)
	}
	return topic, json.RawMessage(rest), nil
}

// withQuery is query with one more pair.
func withQuery(query, pair string) string {
	if query == "" {
		return pair
	}
	return query + "&" + pair
}

// secured reports whether u is reached over TLS.
func secured(u *url.URL) bool { return u.Scheme == "wss" || u.Scheme == "https" }

// authority is the host and port that u is reached at.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" && secured(u) {
		port = "443"
	} else if port == "" {
		port = "80"
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// binary adds m, whose data are bytes, to got in the form that DECODE or BINARY give it.
func (o *Options) binary(m translate.Message, got *Received) {
	switch {
	case len(o.Decode) > 0:
		var ok bool
		if m.Data, ok = o.decode(m.Data, got); !ok {
			return
		}
	case o.Binary == BinaryDrop:
		return
	case o.Binary == BinaryText:
	default:
		m.Data, m.Text = base64.StdEncoding.AppendEncode(nil, m.Data), true
	}
	got.Messages = append(got.Messages, m)
}

// bytes is for dialects in which payloads are not marked as text or binary: with DECODE all are packed, except empty ones; without, what is UTF-8
// is text, and the rest goes the way of BINARY.
func (o *Options) bytes(m translate.Message, got *Received) {
	if len(m.Data) == 0 || len(o.Decode) == 0 && utf8.Valid(m.Data) {
		got.Messages = append(got.Messages, m)
		return
	}
	o.binary(m, got)
}

// decode is what DECODE makes of a payload, in memory of its own. What is too large then is a gap, what does not decode is not.
func (o *Options) decode(payload []byte, got *Received) (data []byte, ok bool) {
	data, err := o.Decode.Decode(payload, cmp.Or(o.MaxMessage, defaultBounds))
	got.Decoded = append(got.Decoded, Decoded{len(payload), data, err})
	if errors.Is(err, decode.ErrTooLarge) {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	return data, err == nil
}
