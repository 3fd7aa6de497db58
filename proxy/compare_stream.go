package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"sidestream/translate"
	"sidestream/translate/sse"
)

// Sidecar is where a sidecar that runs with this configuration answers.
type Sidecar struct {
	Listen string // HOST:PORT, or unix: and a path
	Secure bool   // it has a certificate
}

// request is a client's request that words stand for, with the values of its path.
type request struct {
	*http.Request
	paths map[string]string
}

// eventReader gives the events of a stream to a comparison.
type eventReader struct {
	*comparing
	decoder *sse.Decoder
	doc     any  // with MODE=patch: as of the last event
	begun   bool // it was there
}

// Write takes the next bytes of the stream.
func (e *eventReader) Write(p []byte) (int, error) {
	if e.decoder == nil {
		e.decoder = sse.NewDecoder(64 << 20)
	}
	now := time.Now()
	e.decoder.Decode(p, func(ev sse.Event) { e.take(ev, now) })
	return len(p), nil
}

func (e *eventReader) take(ev sse.Event, now time.Time) {
	switch {
	case ev.Name == "stream.gap": // what it lacks is told
		e.mu.Lock()
		e.gaps++
		e.c.Away(true)
		e.mu.Unlock()
		e.there(true)
		return
	case strings.HasPrefix(ev.Name, "stream."):
		return
	case e.rt.Upstream.Patches() && (ev.Name == translate.EventSnapshot || ev.Name == translate.EventPatch):
		e.patched(ev, now)
		return
	}
	e.add(true, ev.Name, ev.Data, now)
}

// patched follows a document that is told by patches.
func (e *eventReader) patched(ev sse.Event, now time.Time) {
	text, doc, err := patched(e.doc, ev)
	if e.doc = doc; err != nil {
		e.add(true, ev.Name, ev.Data, now) // which the other side has not
		return
	}
	e.add(true, translate.EventSnapshot, text, now)
}

// wildcard is a wildcard of a pattern of net/http.
var wildcard = regexp.MustCompile(`\{([^{}.]+)(\.\.\.)?\}`)

// follow reads the route's stream of the sidecar, as an EventSource does, until ctx is done. found is false where nothing listens.
func (s Sidecar) follow(ctx context.Context, rt *RouteSettings, r request, reader *eventReader) (found bool, err error) {
	address, client := s.client()
	path := wildcard.ReplaceAllStringFunc(strings.TrimSuffix(rt.Path, "{$}"), func(w string) string {
		return url.PathEscape(r.paths[wildcard.FindStringSubmatch(w)[1]])
	})
	target := address + path
	if query := r.URL.RawQuery; query != "" {
		target += "?" + query
	}
	reader.where = address + rt.Path
	for last := ""; ctx.Err() == nil; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return found, err
		}
		req.Header = r.Header.Clone()
		req.Header.Set("Accept", sse.ContentType)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		res, err := client.Do(req)
		if err != nil && !found && refusedToConnect(err) {
			return false, nil
		}
		if err == nil {
			found = true
			err = reader.read(res, &last)
			res.Body.Close()
			reader.cut(true)
			if err != nil && (last == "" || res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests) {
				return true, err
			}
		}
		if ctx.Err() == nil {
			reader.Log.Info("the stream ended, and is asked for again")
			pause(ctx, reader.retry())
		}
	}
	return found, nil
}

// client is what asks the sidecar, and where: a certificate of one's own machine is for another name.
func (s Sidecar) client() (address string, client *http.Client) {
	t := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	scheme := "http"
	if s.Secure {
		scheme = "https"
	}
	if path, ok := strings.CutPrefix(s.Listen, "unix:"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return scheme + "://localhost", &http.Client{Transport: t}
	}
	host, port, _ := net.SplitHostPort(s.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port), &http.Client{Transport: t}
}

// refusedToConnect reports whether nothing listens.
func refusedToConnect(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// read reads one answer to its end, and keeps the last id. It fails where it is no event stream.
func (e *eventReader) read(res *http.Response, last *string) error {
	if media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); res.StatusCode != http.StatusOK || strings.TrimSpace(media) != sse.ContentType {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return fmt.Errorf("the stream at %s answers %s, and no events: %s", e.where, res.Status, oneLine(text, false))
	}
	e.decoder = nil
	e.cut(false)
	e.begin()
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		_, _ = e.Write(buf[:n])
		if id := e.decoder.LastID(); id != "" {
			*last = id
		}
		if err != nil {
			return nil
		}
	}
}

// begin notes that the stream is there. After a cut it goes on, by its last id.
func (e *eventReader) begin() {
	if !e.begun {
		e.begun = true
		e.there(true)
	}
}

// retry is how long the stream asks to wait.
func (e *eventReader) retry() time.Duration {
	if e.decoder != nil && e.decoder.Retry() > 0 {
		return min(e.decoder.Retry(), 30*time.Second)
	}
	return 3 * time.Second
}
