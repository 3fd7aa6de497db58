package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/probe"
)

// DefaultIdle is how long a silence is tried at most: the timeouts of most proxies are 60 s.
const DefaultIdle = 45 * time.Second

const usage = "usage: sidestream doctor [-idle 45s] [-json] [-insecure] URL, where URL is the public address of a route, or of the site"

// ErrWords is wrapped by the error of [Command] where it does not know its words.
var ErrWords = errors.New(usage)

// ErrFindings is wrapped by the error of [Command] where something needs a person.
var ErrFindings = errors.New("doctor")

// Command is the command doctor. It prints what it finds to stdout, and fails with ErrFindings when something of that needs to be mended.
func Command(ctx context.Context, words []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	idle := flags.Duration("idle", DefaultIdle, "")
	machine := flags.Bool("json", false, "")
	insecure := flags.Bool("insecure", false, "")
	if err := flags.Parse(words); errors.Is(err, flag.ErrHelp) {
		_, err = fmt.Fprintln(stdout, usage)
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrWords, err)
	}
	target, err := parse(flags.Args())
	switch {
	case err != nil:
		return err
	case *idle < time.Second || *idle > probe.MaxSilence:
		return fmt.Errorf("%w: -idle %v is not from 1s to %v", ErrWords, *idle, probe.MaxSilence)
	}
	d := &doctor{target: target, idle: *idle, transport: func() *http.Transport { return newTransport(*insecure) }}
	report := d.examine(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := report.print(stdout, *machine); err != nil {
		return err
	}
	if n := report.Count(Fix); n > 0 {
		return fmt.Errorf("%w: %d of its findings should be mended", ErrFindings, n)
	}
	return nil
}

// parse reads the command's argument.
func parse(words []string) (*url.URL, error) {
	if len(words) != 1 {
		return nil, fmt.Errorf("%w: one URL, got %d", ErrWords, len(words))
	}
	text := words[0]
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: this is no URL", ErrWords) // it may hold a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%w: the URL does not begin with https:// or http:// and a host", ErrWords)
	case u.User != nil:
		return nil, fmt.Errorf("%w: the URL has a user or password, which are not needed", ErrWords)
	}
	u.Fragment = ""
	return u, nil
}

func newTransport(insecure bool) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure}
	t.ForceAttemptHTTP2 = true
	return t
}

// doctor examines one URL.
type doctor struct {
	target    *url.URL
	idle      time.Duration
	transport func() *http.Transport // a new one

	base   *url.URL      // the probe's
	first  *probe.Words  // of the request that found it
	proto  string        // HTTP version that it was answered in
	ahead  time.Duration // the sidecar's clock before this one's
	trip   time.Duration // shortest round trip
	direct bool          // what answers here is a sidecar itself

	mu        sync.Mutex // guards what follows
	products  []string
	instances []string
}

// examine makes all checks.
func (d *doctor) examine(ctx context.Context) *Report {
	r := &Report{URL: d.target.Redacted(), Time: time.Now().UTC().Truncate(time.Second)}
	if missing := d.find(ctx); missing != nil {
		r.Findings = append(missing, d.route(ctx)...)
		r.Products = d.recognised()
		r.prescribe()
		return r
	}
	r.Probe = d.base.String()
	d.fingerprint(ctx)
	clock := d.clock(ctx)
	var silence []Finding
	var all sync.WaitGroup
	all.Go(func() { silence = d.silence(ctx) }) // which takes long, so beside the others
	found := slices.Concat(d.versions(ctx), d.events(ctx), d.ends(ctx))
	others := slices.Concat(d.headers(ctx), d.replicas(ctx), d.webSocket(ctx), d.posts(ctx), d.route(ctx))
	all.Wait()
	r.Findings = slices.Concat(found, silence, others, clock)
	r.Products = d.recognised()
	r.prescribe()
	return r
}

// recognised are the products seen on the way.
func (d *doctor) recognised() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.products)
}

// note takes down what an answer tells of the way that it came.
func (d *doctor) note(h http.Header, products ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, product := range append(probe.Recognise(h), products...) {
		if !slices.Contains(d.products, product) {
			d.products = append(d.products, product)
		}
	}
	if name := h.Get(probe.InstanceHeader); name != "" && !slices.Contains(d.instances, name) {
		d.instances = append(d.instances, name)
	}
}

// client is one with connections of its own, which end with done.
func (d *doctor) client() (c *http.Client, done func()) {
	t := d.transport()
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, t.CloseIdleConnections
}

// newRequest asks the probe for path, in words that no cache has an answer for.
func (d *doctor) newRequest(ctx context.Context, method, path, query string, body io.Reader) *http.Request {
	u := *d.base
	u.Path += path
	if u.RawQuery = "r=" + rand.Text()[:12]; query != "" {
		u.RawQuery += "&" + query
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		panic(err) // all of it is known to be well-formed
	}
	r.Header.Set("User-Agent", "sidestream-doctor")
	return r
}
