package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/probe"
)

// network is a listener in memory.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{} }
func (n *network) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n.conns <- far:
		return near, nil
	case <-n.done:
		return nil, errors.New("refused")
	}
}

// handler answers as a sidecar does that has nothing but its probe.
func handler(p *probe.Probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !probe.Has(r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		if p.Answer(w, r, netip.Prefix{})() {
			panic(http.ErrAbortHandler)
		}
	})
}

// examining examines what h answers, in a bubble. words may change the doctor.
func examining(t *testing.T, target string, h http.Handler, f func(t *testing.T, r *Report), words ...func(*doctor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{conns: make(chan net.Conn), done: make(chan struct{})}
		s := &http.Server{Handler: h}
		go s.Serve(n)
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		d := &doctor{target: u, idle: 45 * time.Second, transport: func() *http.Transport {
			return &http.Transport{DialContext: n.dial, DisableCompression: true}
		}}
		for _, change := range words {
			change(d)
		}
		f(t, d.examine(t.Context()))
		s.Close()
		time.Sleep(time.Second) // net/http waits for half of it where a body was not read
	})
}

// of is the gravest finding of a check.
func (r *Report) of(check string) (f Finding) {
	for _, other := range r.Findings {
		if other.Check == check && (f.Level == "" || f.Level == OK || other.Level == Fix) {
			f = other
		}
	}
	return f
}

func want(t *testing.T, r *Report, check, level, part string) {
	t.Helper()
	if f := r.of(check); f.Level != level || !strings.Contains(f.Seen+"; "+f.Means, part) {
		all, _ := json.Marshal(r.Findings)
		t.Errorf("%s: %s: %s; %s; want %s: %s\n%s", check, f.Level, f.Seen, f.Means, level, part, all)
	}
}

// held is an answer of which something is held back.
type held struct {
	http.ResponseWriter
	most   int           // bytes, until there are as many
	behind bool          // what was written last
	late   time.Duration // each write
	kept   []byte
}

func (h *held) Write(p []byte) (int, error) {
	time.Sleep(h.late)
	before := h.kept
	h.kept = append(h.kept, p...)
	switch {
	case h.behind:
		h.ResponseWriter.Write(before)
		h.kept = append([]byte(nil), p...)
	case len(h.kept) > h.most:
		h.ResponseWriter.Write(h.kept)
		h.kept = nil
	}
	return len(p), nil
}

func (h *held) Flush() {
	if h.behind || len(h.kept) == 0 {
		h.ResponseWriter.(http.Flusher).Flush()
	}
}

// holding has streams held back as by h.
func holding(h held) http.Handler {
	inner := handler(probe.New(false))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/stream") {
			inner.ServeHTTP(w, r)
			return
		}
		one := h
		one.ResponseWriter = w
		inner.ServeHTTP(&one, r)
		w.Write(one.kept)
	})
}
