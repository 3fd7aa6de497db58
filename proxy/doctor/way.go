package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/probe"
)

// versions is what is spoken to the client, and on the last hop.
func (d *doctor) versions(context.Context) []Finding {
	f := Finding{Check: "http", Level: OK, Seen: fmt.Sprintf("%s to the client, %s to the sidecar", d.proto, d.first.Proto)}
	switch {
	case d.first.Proto == "HTTP/1.0":
		f.Level, f.ill, f.Means = Note, ancient, "events arrive all the same; each needs a connection of its own to the sidecar, and a WebSocket cannot pass"
	case strings.HasPrefix(d.proto, "HTTP/1."):
		f.Level, f.ill, f.Means = Note, sixOnly, "over HTTP/1.1 browsers open six connections to a host, for all tabs together: pages with several streams need HTTP/2, or SidestreamEventSource"
	}
	return []Finding{f}
}

// fingerprint looks at how the first one on the way answers a request that none would pass on: each product has a page of its own for that.
func (d *doctor) fingerprint(ctx context.Context) {
	t := d.transport()
	defer t.CloseIdleConnections()
	port := d.target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[d.target.Scheme]
	}
	if by, err := proxyOf(t, d.base); by != nil || err != nil {
		return // which would be the one that answers
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(d.target.Hostname(), port))
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if d.target.Scheme == "https" {
		settings := &tls.Config{ServerName: d.target.Hostname(), NextProtos: []string{"http/1.1"}}
		if t.TLSClientConfig != nil {
			settings.InsecureSkipVerify, settings.RootCAs = t.TLSClientConfig.InsecureSkipVerify, t.TLSClientConfig.RootCAs
		}
		conn = tls.Client(conn, settings)
	}
	fmt.Fprintf(conn, "GET %s/request HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nno field\r\n\r\n", d.base.Path, d.target.Host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if strings.Contains(string(text), "Your browser sent an invalid request.") { // its errorfile, unless it has another one
		d.note(resp.Header, probe.HAProxy)
		return
	}
	d.note(resp.Header)
	d.direct = string(text) == "400 Bad Request" && len(d.recognised()) == 0 // net/http's, which other programs have, too
}

func proxyOf(t *http.Transport, u *url.URL) (*url.URL, error) {
	if t.Proxy == nil {
		return nil, nil
	}
	return t.Proxy(&http.Request{URL: u})
}

// replicas looks at who answers, over connections of their own.
func (d *doctor) replicas(ctx context.Context) []Finding {
	const times = 6
	answered := 0
	for range times {
		if _, _, err := d.ask(ctx, nil); err == nil {
			answered++
		}
	}
	d.mu.Lock()
	n := len(d.instances)
	d.mu.Unlock()
	switch {
	case n <= 1:
		return []Finding{{Check: "replicas", Level: OK, Seen: "one sidecar answers"}}
	case d.first.Shared:
		return []Finding{{Check: "replicas", Level: OK, Seen: fmt.Sprintf("%d sidecars answer, which share a history", n)}}
	}
	return []Finding{{Check: "replicas", Level: Fix, ill: scattered, Seen: fmt.Sprintf("%d sidecars answer, which share no history", n),
		Means: "a client that comes back to another one has ids that are not known there, and is told stream.gap; what is sent to one's stream is not found at another one (404)"}}
}

// webSocket checks that one message passes to the probe and back.
func (d *doctor) webSocket(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	t := d.transport()
	defer t.CloseIdleConnections()
	t.ForceAttemptHTTP2, t.Protocols = false, new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	r := d.newRequest(ctx, http.MethodGet, "/ws", "", nil)
	c, resp, err := websocket.Dial(ctx, r.URL.String(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: t}})
	f := Finding{Check: "websocket", Level: OK, Seen: "WebSockets pass"}
	if err != nil {
		f.Level, f.ill, f.Seen = Note, noUpgrade, "a WebSocket does not pass: "+cause(err)
		switch {
		case resp != nil && isBusy(resp):
			f.ill, f.Seen = well, "whether a WebSocket passes was not found out: "+errBusy.Error()
			return []Finding{f}
		case resp != nil:
			d.note(resp.Header)
			f.Seen = fmt.Sprintf("a WebSocket does not pass: %d", resp.StatusCode)
		}
		f.Means = "only pages that still use the old protocol need it; events do not, nor does the tunnel"
		return []Finding{f}
	}
	defer c.CloseNow()
	c.Write(ctx, websocket.MessageText, []byte("doctor")) // or there is no echo
	if _, said, err := c.Read(ctx); err != nil || string(said) != "doctor" {
		f.Level, f.ill, f.Seen, f.Means = Note, noUpgrade, "a WebSocket opens, but its message does not come back", "only pages that still use the old protocol need it"
	}
	return []Finding{f}
}

// posts finds out how large a body may be, up to what the probe takes.
func (d *doctor) posts(ctx context.Context) []Finding {
	low, high := 0, probe.MaxBody+1
	for _, n := range []int{probe.MaxBody, 1, 64 << 10, 1 << 20} { // the first is where most end, the others what most limits are
		if low >= n || high <= n {
			continue
		}
		if unknown := d.narrow(ctx, n, &low, &high); unknown != nil {
			return unknown
		}
	}
	for low > 0 && high <= probe.MaxBody && high-low > max(low/20, 1<<10) {
		if unknown := d.narrow(ctx, (low+high)/2, &low, &high); unknown != nil {
			return unknown
		}
	}
	f := Finding{Check: "post", Level: Note, ill: small, Seen: "POSTs pass up to some " + bytes(low), Means: "what pages send by SEND or the tunnel is limited to that, a message each"}
	switch {
	case low == 0:
		f.Level, f.Seen, f.Means = Fix, "no POST arrives", "SEND and the tunnel cannot work"
	case low == probe.MaxBody:
		f = Finding{Check: "post", Level: OK, Seen: "POSTs of 4 MiB pass, which is as far as is tried"}
	case low < 1<<20:
		f.Level, f.Means = Fix, f.Means+"; the sidecar takes 1 MiB (MAX_MESSAGE)"
	}
	return []Finding{f}
}

// narrow tries a body of n bytes: low is the largest that has passed, high the smallest that has not. It returns a finding where it cannot say.
func (d *doctor) narrow(ctx context.Context, n int, low, high *int) []Finding {
	passed, err := d.posted(ctx, n)
	switch {
	case passed:
		*low = n
	case errors.Is(err, errBusy):
		return []Finding{{Check: "post", Level: Note, Seen: "how much may be sent was not found out: " + err.Error()}}
	case errors.Is(err, context.DeadlineExceeded):
		return []Finding{{Check: "post", Level: Note, Seen: fmt.Sprintf("a POST of %s took longer than %s; %s passed", bytes(n), short(3*answerTime), bytes(*low))}}
	default:
		*high = n
	}
	return nil
}

func bytes(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", max(1, n>>10))
}

// posted reports whether a body of n bytes arrives whole. It fails where that is not known.
func (d *doctor) posted(ctx context.Context, n int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*answerTime)
	defer cancel()
	c, done := d.client()
	defer done()
	r := d.newRequest(ctx, http.MethodPost, "/post", "", io.LimitReader(zeros{}, int64(n)))
	r.ContentLength = int64(n)
	r.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.Do(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if isBusy(resp) {
		return false, errBusy
	}
	d.note(resp.Header)
	var said probe.Posted
	err = json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&said)
	return err == nil && said.Sidestream && said.Bytes == int64(n), nil
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// route looks at what was asked for itself, if that is more than a site: what is configured for its path may differ from what is for the probe's.
func (d *doctor) route(ctx context.Context) []Finding {
	if p := d.target.Path; strings.Trim(p, "/") == "" || strings.Contains(p, "/_sidestream") || d.base != nil && strings.Trim(strings.TrimSuffix(d.base.Path, probe.Path), "/") == strings.Trim(p, "/") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, done := d.client()
	defer done()
	u := *d.target
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "heartbeat=event" // the first one comes within a second
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil
	}
	r.Header.Set("Accept", "text/event-stream")
	begun := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		return []Finding{{Check: "route", Level: Fix, ill: holds, Seen: "the route does not answer: " + cause(err),
			Means: "where the events of the probe arrive, what is configured for this path differs; an upstream that does not answer is waited for 3 s"}}
	}
	defer resp.Body.Close()
	f := Finding{Check: "route", Level: OK}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		f.Level, f.Seen = Note, fmt.Sprintf("the route wants to know who asks (%d), and was not looked at", resp.StatusCode)
	case resp.StatusCode == http.StatusNoContent:
		f.Seen = "the route's stream is complete (204)"
	case resp.StatusCode == http.StatusOK && kind != "text/event-stream":
		f.Level, f.Seen = Fix, fmt.Sprintf("the route answers %s, no event stream", resp.Header.Get("Content-Type"))
		f.Means = "the path is none of the sidecar's routes, or is not passed on to it"
	case resp.StatusCode != http.StatusOK:
		f.Level, f.Seen = Fix, fmt.Sprintf("the route answers %d", resp.StatusCode)
		f.Means = "an EventSource gives up at it for good"
	default:
		beat, err := heartbeat(resp.Body)
		took := time.Since(begun)
		if beat && took < firstBeat {
			f.Seen = "the route's stream and its heartbeats arrive"
			break
		}
		f.Level, f.ill, f.Seen = Fix, holds, "the route's stream begins, but no heartbeat arrives for "+short(took)
		f.Means = "where the events of the probe do arrive, what is configured for this path differs, or HEARTBEAT is 0"
		if err != nil {
			f.Seen += ": " + cause(err)
		}
	}
	return []Finding{f}
}

// firstBeat is by when a first heartbeat has come: an upstream is waited for 3 s, and it follows within a second.
const firstBeat = 5 * time.Second

// heartbeat reports whether a stream has one, of which the first comes a second after the beginning, in a write of its own.
func heartbeat(body io.Reader) (bool, error) {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if lines.Text() == "event: stream.heartbeat" {
			return true, nil
		}
	}
	return false, lines.Err()
}
