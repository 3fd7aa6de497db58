package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/probe"
)

// documented is an address of nobody's (RFC 5737), for what a client may claim.
const documented = "192.0.2.1"

// headers checks what of a client's request arrives as it was sent.
func (d *doctor) headers(ctx context.Context) []Finding {
	id, cookie := "doctor-"+rand.Text()[:8], rand.Text()[:16]
	said, resp, err := d.ask(ctx, http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}, "Last-Event-Id": {id},
		"Cookie": {"sidestream_doctor=" + cookie}, "X-Forwarded-For": {documented}})
	if err != nil {
		seen := "the request with headers was not answered: "
		if resp != nil && !errors.Is(err, errBusy) {
			seen = fmt.Sprintf("a request with headers was answered %d by something else than the sidecar: ", resp.StatusCode)
		}
		return []Finding{{Check: "headers", Level: Note, Seen: seen + cause(err)}}
	}
	var found []Finding
	lost := func(level, name string, as []string, means string) {
		seen := name + " does not arrive"
		if len(as) > 0 {
			seen = fmt.Sprintf("%s arrives as %q", name, strings.Join(as, ", "))
		}
		found = append(found, Finding{Check: "headers", Level: level, ill: strips, Seen: seen, Means: means})
	}
	if got := said.Header["Last-Event-Id"]; !slices.Equal(got, []string{id}) {
		lost(Fix, "Last-Event-ID", got, "an EventSource that comes back misses what was sent meanwhile, and is told so only where it can be noticed")
	}
	if got := said.Header["Accept"]; !slices.Equal(got, []string{"text/event-stream"}) {
		lost(Fix, "Accept", got, "with SSE_UPSTREAM set, what does not accept text/event-stream is passed through to the service")
	}
	if !slices.Contains(said.Cookies, probe.Cookie{Name: "sidestream_doctor", Length: len(cookie)}) {
		lost(Fix, "Cookie", nil, "whoever is known by a session's cookie is a stranger to the sidecar and the service")
	}
	if got := said.Header["Cache-Control"]; !slices.Equal(got, []string{"no-cache"}) {
		lost(Note, "Cache-Control", got, "no harm; a cache between may be why")
	}
	found = append(found, d.authorization(ctx)...)
	if len(found) == 0 {
		found = []Finding{{Check: "headers", Level: OK, Seen: "Last-Event-ID, Accept, Cookie, Authorization and Cache-Control arrive as they were sent"}}
	}
	return append(append(found, d.host(said)...), d.forwarded(said)...)
}

// authorization checks that a credential arrives; not one that is any.
func (d *doctor) authorization(ctx context.Context) []Finding {
	said, resp, err := d.ask(ctx, http.Header{"Authorization": {"Bearer sidestream-doctor"}})
	switch {
	case err == nil && said.Authorization:
		return nil
	case err == nil:
		return []Finding{{Check: "headers", Level: Fix, ill: strips, Seen: "Authorization does not arrive", Means: "bearer tokens reach neither the sidecar nor the service"}}
	case resp != nil && !errors.Is(err, errBusy):
		return []Finding{{Check: "headers", Level: Note, Seen: fmt.Sprintf("a request with Authorization was answered %d before it reached the sidecar", resp.StatusCode), Means: "what is between verifies tokens itself"}}
	}
	return nil
}

// host is the finding on Host.
func (d *doctor) host(said *probe.Words) []Finding {
	bare := func(host string) string {
		return strings.TrimSuffix(strings.ToLower(host), map[string]string{"https": ":443", "http": ":80"}[d.target.Scheme])
	}
	if bare(said.Host) == bare(d.target.Host) {
		return []Finding{{Check: "host", Level: OK, Seen: "Host arrives as it was sent"}}
	}
	return []Finding{{Check: "host", Level: Fix, ill: renames, Seen: fmt.Sprintf("Host arrives as %s", said.Host),
		Means: "browsers that do not send Sec-Fetch-Site (plain HTTP) are refused as pages of another origin, and services that check Origin see another host"}}
}

// forwarded is the finding on what is said of the client's address, and of its scheme.
func (d *doctor) forwarded(said *probe.Words) []Finding {
	f := Finding{Check: "address", Level: OK, Seen: "X-Forwarded-For arrives with an address added, or set"}
	switch got := strings.Join(said.Header["X-Forwarded-For"], ", "); {
	case d.direct && got == documented:
		return nil
	case got == "":
		f.Level, f.ill, f.Seen, f.Means = Note, anonymous, "no X-Forwarded-For arrives", "all clients have one address, the proxy's: SSE_MAX_CLIENTS_PER_IP would count them as one"
	case got == documented:
		f.Level, f.ill, f.Seen, f.Means = Note, anonymous, "X-Forwarded-For arrives as the client sent it", "a client chooses its own address, and those that send none have the proxy's"
	}
	found := []Finding{f}
	if d.target.Scheme == "https" && !slices.Equal(said.Header["X-Forwarded-Proto"], []string{"https"}) {
		found = append(found, Finding{Check: "scheme", Level: Note, ill: schemeless, Seen: "no X-Forwarded-Proto: https arrives",
			Means: "a service that builds addresses, or wants HTTPS, takes clients for such of plain HTTP, unless the sidecar has the certificate"})
	}
	return found
}

// clock measures how far the sidecar's clock is ahead, and how long a request takes.
func (d *doctor) clock(ctx context.Context) []Finding {
	c, done := d.client()
	defer done()
	d.trip = time.Hour
	for range 6 {
		begun := time.Now()
		said, _, err := d.askBy(ctx, c, nil)
		if err != nil {
			continue
		}
		if trip := time.Since(begun); trip < d.trip {
			d.trip, d.ahead = trip, time.UnixMicro(said.Time).Sub(begun.Add(trip/2))
		}
	}
	if d.trip == time.Hour {
		d.trip, d.ahead = 0, 0
		return []Finding{{Check: "clock", Level: Note, Seen: "the sidecar's clock could not be read"}}
	}
	off, way := d.ahead.Abs(), "ahead of"
	if d.ahead < 0 {
		way = "behind"
	}
	f := Finding{Check: "clock", Level: OK, Seen: fmt.Sprintf("the sidecar's clock is %s %s this machine's (seen over a round trip of %s)", short(off), way, short(d.trip))}
	if off > 25*time.Second {
		f.Level, f.Means = Fix, "JWTs are taken for expired, or not valid yet (30 s are forgiven), and tickets of other replicas, too; let both machines ask a time server"
	} else if off > 2*time.Second {
		f.Level, f.Means = Note, "JWTs and tickets have a leeway of 30 s"
	}
	return []Finding{f}
}
