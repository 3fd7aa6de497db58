package doctor

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"sidestream/proxy/probe"
)

const (
	patience = 10 * time.Second      // how long an event that does not come is waited for
	slack    = 20 * time.Millisecond // what two moments may differ by that are one
)

// arrival is one event's, both times by this machine's clock.
type arrival struct{ sent, at time.Time }

// course is that of one of the probe's streams.
type course struct {
	plan     probe.Plan
	status   int // 0: no answer
	header   http.Header
	begun    time.Time
	arrivals []arrival
	last     time.Time // of the last byte
	ended    time.Time
	err      error // nil: it ended cleanly
	late     bool  // it did not end in time, and was left
}

// whole reports whether all that was planned has arrived.
func (c *course) whole() bool { return len(c.arrivals) == c.plan.Events }

// watch has the probe send a stream, over a connection of its own.
func (d *doctor) watch(ctx context.Context, plan probe.Plan, accept string) *course {
	ctx, cancel := context.WithTimeout(ctx, plan.Length()+patience)
	defer cancel()
	client, done := d.client()
	defer done()
	r := d.newRequest(ctx, http.MethodGet, "/stream", plan.Query(), nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	if accept != "" {
		r.Header.Set("Accept-Encoding", accept)
	}
	c := &course{plan: plan, begun: time.Now()}
	resp, err := client.Do(r)
	if err == nil {
		defer resp.Body.Close()
		d.note(resp.Header)
		c.status, c.header = resp.StatusCode, resp.Header
		err = c.read(resp, d.ahead)
	}
	c.err, c.ended, c.late = err, time.Now(), errors.Is(err, context.DeadlineExceeded)
	return c
}

// read reads a stream to its end, which is clean where it returns nil.
func (c *course) read(resp *http.Response, ahead time.Duration) error {
	body := io.Reader(resp.Body)
	switch resp.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unzipped
	default:
		_, err := io.Copy(io.Discard, body)
		return err
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		c.last = time.Now()
		text, isData := strings.CutPrefix(lines.Text(), "data: ")
		var said struct{ At int64 }
		if isData && json.Unmarshal([]byte(text), &said) == nil {
			c.arrivals = append(c.arrivals, arrival{time.UnixMicro(said.At).Add(-ahead), c.last})
		}
	}
	return lines.Err()
}
