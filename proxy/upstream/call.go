package upstream

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// noAnswer is the error of a request without an answer, or of an answer that broke off: RESET is asked then too, with $status
// null.
type noAnswer struct{ error }

// Unwrap returns the reason.
func (e noAnswer) Unwrap() error { return e.error }

// client is base for one source of the route, whose cookies j keeps.
func (rt *Route) client(base *http.Client, j *jar) *http.Client {
	c := *base
	c.Transport = Spelled{c.Transport, rt.spelling}
	if rt.forgets {
		c.Transport = once{c.Transport}
	}
	if j != nil {
		c.Transport = carried{c.Transport, j}
	}
	return &c
}

// jar is a new one, nil with COOKIES=off.
func (rt *Route) jar() *jar {
	if rt.settings.NoCookies {
		return nil
	}
	return new(jar)
}

// once sends each request once. net/http repeats one whose connection is lost before its answer begins, and the caller is not told;
// but a server that has restarted meanwhile, with its numbers from the beginning, would wait for a number that it has long given.
type once struct{ base http.RoundTripper }

var errRepeated = errors.New("the connection was lost before the answer")

func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	var written atomic.Int32
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			written.Add(1)
		}
	}}
	resp, err := o.base.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err == nil && written.Load() > 1 {
		resp.Body.Close()
		return nil, errRepeated
	}
	return resp, err
}
