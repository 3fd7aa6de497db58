package upstream

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// clientRequest answers for one client's request what templates ask.
type clientRequest struct {
	r     *http.Request
	path  func(name string) string
	claim func(name string) string // nil: nothing is known of who the client is
	sent  *Sent                    // what it has sent besides; nil: nothing
	query url.Values               // parsed when first asked for

	most    int      // bytes of one value
	scoped  bool     // ?session= is the sidecar's own
	runs    bool     // ?run= is
	private []string // values that are for the upstream only
	named   []Named  // values of the path
	asked   bool     // something of the request was looked at
}

// take is lookup of a value that goes upstream.
func (c *clientRequest) take(kind, name string) string {
	value := c.lookup(kind, name)
	if kind != "path" {
		c.private = append(c.private, value)
	} else if one := (Named{name, fitToShow(value)}); !slices.Contains(c.named, one) {
		c.named = append(c.named, one)
	}
	return value
}

// bounds refuses a value that is too long for a template.
func (c *clientRequest) bounds(p part, value string) error {
	if len(value) > c.most {
		return &BadRequest{fmt.Sprintf("%s is longer than %d bytes (SSE_MAX_VALUE)", p.text(), c.most)}
	}
	return nil
}

// brought is what the client has sent besides the head of its request.
func (c *clientRequest) brought(kind string) (string, error) {
	c.asked = true
	switch {
	case kind == "body" && c.sent != nil:
		return c.sent.Body, nil
	case kind == "body":
		return "", &BadRequest{needsBody}
	case c.sent == nil || c.sent.Operation == "":
		return "", &BadRequest{needsOperation}
	}
	return c.sent.Operation, nil
}

// header is all values of one.
func (c *clientRequest) header(name string) []string {
	c.asked = true
	return c.r.Header.Values(name)
}

// lookup returns a value of the request, which does not keep what it was a part of in memory: a header may be long, and a
// stream lasts.
func (c *clientRequest) lookup(kind, name string) string { return strings.Clone(c.find(kind, name)) }

func (c *clientRequest) find(kind, name string) string {
	c.asked = true
	switch kind {
	case "path":
		return c.path(name)
	case "auth":
		if c.claim == nil {
			return ""
		}
		return c.claim(name)
	case "header":
		if http.CanonicalHeaderKey(name) == "Host" {
			return c.r.Host
		}
		return c.r.Header.Get(name)
	case "cookie":
		cookie, err := c.r.Cookie(name)
		if err != nil {
			return ""
		}
		return cookie.Value
	}
	if name == "" {
		raw := wholeQuery(c.r.URL.RawQuery, c.scoped)
		if c.runs {
			raw = Without(raw, func(name, _ string) bool { return name == "run" })
		}
		return raw
	}
	if c.query == nil {
		c.query = c.r.URL.Query()
	}
	return c.query.Get(name)
}

// appendNew appends s unless list has it.
func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// wholeQuery is the client's query without the pairs that are the sidecar's own.
func wholeQuery(raw string, scoped bool) string {
	return Without(raw, func(name, value string) bool { return Own(name, value) || scoped && name == "session" })
}

// Own reports whether a pair of a client's query is for the sidecar alone, whatever its route.
func Own(name, value string) bool {
	return name == "lastEventId" || name == "last_event_id" || name == "heartbeat" && value == "event" || name == "poll" && (value == "1" || value == "held")
}

// Without is a query without the pairs for which drop is true. What is left stays as it was written.
func Without(raw string, drop func(name, value string) bool) string {
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if pair != "" && (err != nil || !drop(name, value)) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}
