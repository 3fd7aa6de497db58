package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"sidestream/proxy/probe"
)

const (
	answerTime = 10 * time.Second // one request that is answered at once
	mostPaths  = 8                // that the probe is looked for under
)

// errBusy is the probe's, when too much is asked of it at once.
var errBusy = errors.New("the probe is busy; try again in a minute")

// isBusy reports whether an answer says so; one of something else on the way has another header.
func isBusy(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get(probe.InstanceHeader) != ""
}

// find finds the probe, under the URL's path and each above it: a proxy may have put the sidecar under one. Where there is none it returns why.
func (d *doctor) find(ctx context.Context) []Finding {
	var seen []string
	var others []http.Header // of answers that are not the probe's: of a proxy, or of a service that they were passed through to
	for _, prefix := range prefixes(d.target.Path) {
		d.base = &url.URL{Scheme: d.target.Scheme, Host: d.target.Host, Path: prefix + probe.Path}
		said, resp, err := d.ask(ctx, nil)
		switch {
		case resp == nil && err != nil:
			return []Finding{unreachable(err)}
		case err == nil:
			d.first, d.proto = said, resp.Proto
			return nil
		case errors.Is(err, errBusy):
			return []Finding{{Check: "probe", Level: Fix, Seen: "the sidecar's probe is busy", Means: "somebody else asks it too, or has just done so; try again in a minute"}}
		}
		others = append(others, resp.Header)
		seen = append(seen, fmt.Sprintf("%s: %d", d.base.Path, resp.StatusCode))
	}
	d.base = nil
	for _, h := range others {
		d.note(h)
	}
	return []Finding{{Check: "probe", Level: Fix, ill: noProbe, Seen: "no sidecar's probe was found (" + strings.Join(seen, ", ") + ")",
		Means: "the proxy passes these paths on to something else than a sidecar, or SSE_DOCTOR is off there"}}
}

// prefixes are the paths that a sidecar may have been put under, the longest first.
func prefixes(target string) (all []string) {
	target, _, _ = strings.Cut(target, "/_sidestream/")
	for target = path.Clean("/" + target); target != "/"; target = path.Dir(target) {
		all = append(all, target)
	}
	all = append(all, "")
	return all[max(0, len(all)-mostPaths):]
}

// ask asks the probe how a request arrives. The answer is nil where there is none; where it is one of somebody else, the error is set too.
func (d *doctor) ask(ctx context.Context, header http.Header) (*probe.Words, *http.Response, error) {
	c, done := d.client()
	defer done()
	return d.askBy(ctx, c, header)
}

// askBy is ask over the connections of c.
func (d *doctor) askBy(ctx context.Context, c *http.Client, header http.Header) (*probe.Words, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r := d.newRequest(ctx, http.MethodGet, "/request", url.Values{"host": {d.target.Host}}.Encode(), nil)
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if isBusy(resp) {
		return nil, resp, errBusy
	}
	said := new(probe.Words)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(said); err != nil || !said.Sidestream || resp.StatusCode != http.StatusOK {
		return nil, resp, errors.New("it is no answer of a probe")
	}
	d.note(resp.Header, said.Products...)
	return said, resp, nil
}

// unreachable is the finding that nothing answers.
func unreachable(err error) Finding {
	f := Finding{Check: "reach", Level: Fix, Seen: cause(err), Means: "nothing answers at this address"}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	if errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &verification) {
		f.Means = "browsers refuse this certificate, too, unless they know its authority; -insecure examines the rest all the same"
	}
	return f
}

// cause is the text of an error, without the address, which the report has.
func cause(err error) string {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time"
	}
	return err.Error()
}
