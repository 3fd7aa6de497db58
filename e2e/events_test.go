//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"
)

// dispatched is an event as an EventSource dispatches it.
type dispatched struct {
	name, data, id string // id is the newest one known, of this event or one before
}

// eventReader interprets an event stream as the HTML Standard does, section 9.2.6: every byte counts, and half an event is none.
type eventReader struct {
	id    string        // the last event id; it outlives a connection
	retry time.Duration // what the stream has asked for last

	pending string // the id of the block that is being read
}

// read dispatches to each until in ends.
func (r *eventReader) read(in io.Reader, each func(dispatched)) error {
	r.pending = r.id
	var name string
	var data []string
	lines := bufio.NewReader(in)
	if head, _ := lines.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		lines.Discard(3)
	}
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		if line == "" {
			r.id = r.pending
			if len(data) > 0 {
				each(dispatched{name, strings.Join(data, "\n"), r.id})
			}
			name, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				r.pending = value
			}
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				r.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// readLine reads to the end of a line, which is CR LF, LF or CR. A line without an end is none.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		switch c {
		case '\n':
			return string(line), nil
		case '\r':
			// Waiting for what follows would hold a line back; none of our streams has a CR that stands alone.
			if next, err := in.Peek(1); err == nil && next[0] == '\n' {
				in.ReadByte()
			}
			return string(line), nil
		}
		line = append(line, c)
	}
}
