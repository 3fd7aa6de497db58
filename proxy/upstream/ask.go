package upstream

import (
	"errors"
	"net/http"
	"strings"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// texts takes a line's templates off the front of what HELLO has become.
type texts struct{ left []translate.Text }

func (t *texts) next() translate.Text {
	first := t.left[0]
	t.left = t.left[1:]
	return first
}

// namedText is a header.
type namedText struct {
	name string
	text translate.Text
}

// ask returns the step of a line of HELLO that makes a request, whose templates are the next of all. own are headers that the lines before
// give it, wherever it goes; HEADERS and FORWARD are for FROM's host and port alone.
func (q *Request) ask(a *asks, own []namedText, all *texts) dialect.Step {
	target := all.next()
	var body translate.Text
	if a.body {
		body = all.next()
	}
	return dialect.Step{Ask: func(value func(string) string) (*dialect.HTTPRequest, error) {
		r, err := q.asked(a, target, body, own, value)
		if errors.Is(err, translate.ErrNothing) {
			return nil, nil // which is how a template leaves it out
		}
		return r, err
	}}
}

// asked is the request of a line, filled in.
func (q *Request) asked(a *asks, target, body translate.Text, own []namedText, value func(string) string) (*dialect.HTTPRequest, error) {
	r := &dialect.HTTPRequest{Method: a.method, Header: http.Header{}}
	address, err := fillAddress(target, value)
	if err != nil {
		return nil, err
	}
	r.URL = address
	from, header, err := q.fill(func(name string) string {
		if name == "n" { // which counts dials there
			return "0"
		}
		return value(name)
	}, false)
	if err != nil {
		return nil, err
	}
	if sameAuthority(from, address) {
		r.Header = header
		if header.Get("Origin") == "" {
			header.Set("Origin", origin(from))
		}
	} else {
		r.Header.Set("User-Agent", header.Get("User-Agent"))
	}
	text, err := body.Fill(value)
	if err != nil {
		return nil, err
	}
	if a.body {
		r.Body = []byte(text)
		r.Header.Set("Content-Type", a.media)
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	for _, h := range own {
		text, err := h.text.Fill(value)
		if err != nil {
			return nil, err
		}
		r.Header.Set(h.name, text)
	}
	return r, nil

}

// sameAuthority reports whether two addresses have the same host and port; a WebSocket's are those of HTTP.
func sameAuthority(a, b string) bool {
	one, err := parseAddress(a)
	two, err2 := parseAddress(b)
	if err != nil || err2 != nil {
		return false
	}
	scheme := func(s string) string { return strings.Replace(s, "ws", "http", 1) }
	return scheme(one.Scheme) == scheme(two.Scheme) && address(scheme(one.Scheme), one.Host) == address(scheme(two.Scheme), two.Host)
}
