package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/upstream"
)

// Server is the public server of a proxy: HTTP/1.1, and HTTP/2 over TLS or, without a certificate, in clear.
type Server struct {
	proxy *Proxy
	tls   *tls.Config // nil: in clear
	first *http.Server
	// For HTTP/2 where deliver looks after its connections; the first server has it everywhere else.
	second *http.Server
	others *http.Server // for other replicas; nil: there are none
}

// NewServer returns the server of p. A certificate of nil is no TLS.
func NewServer(p *Proxy, certificate *Certificate, logger *slog.Logger) *Server {
	s := &Server{proxy: p, first: newServer(p, 2*time.Minute, logger), second: newServer(p, -1, logger)}
	s.others = p.peerServer(logger)
	s.first.Protocols.SetHTTP1(true)
	s.second.Protocols.SetUnencryptedHTTP2(true)
	s.second.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS = deliver.TLS(r)
		p.ServeHTTP(w, r)
	})
	if certificate == nil {
		s.first.Protocols.SetUnencryptedHTTP2(true)
		return s
	}
	s.tls = &tls.Config{GetCertificate: certificate.Get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	s.first.Protocols.SetHTTP2(true)
	s.first.TLSConfig = s.tls.Clone() // which net/http changes while others use it
	return s
}

func newServer(h http.Handler, idle time.Duration, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:     h,
		ConnContext: deliver.WithConn,
		// Bodies and answers may last for ever; a request's head may not.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       idle,
		Protocols:         new(http.Protocols),
		ErrorLog:          ErrorLog(logger),

		DisableGeneralOptionsHandler: true, // `OPTIONS *` is passed through like everything else
	}
}

// Serve serves the connections of l, which it closes, until Shutdown or Close. It returns why it ended, never nil.
func (s *Server) Serve(l net.Listener) error {
	first, second := s.proxy.clients.Listeners(l, s.proxy, s.tls)
	if second == nil {
		return s.first.Serve(first)
	}
	// The first server speaks HTTP/1 alone, so what is too long need not be read to the end; net/http adds 4 KiB to the bound. One field
	// of HTTP/2 that is over it would end the connection, and all its streams: there the bound is the proxy's own, see
	// Proxy.ServeHTTP, and net/http's is its default of 1 MiB.
	s.first.MaxHeaderBytes = s.proxy.maxHeader - 4096
	served := make(chan struct{})
	go func() { defer close(served); s.second.Serve(second) }() // ends with first
	err := s.first.Serve(first)
	<-served
	return err
}

// ServePeers answers the other replicas that connect to l, which it closes, until Shutdown or Close. It returns why it ended, never nil.
// What it serves are clients of this sidecar, and end with the others.
func (s *Server) ServePeers(l net.Listener) error {
	if strings.HasPrefix(s.proxy.Peers.URL, "https://") {
		own := s.tls.Clone()
		own.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, own)
	}
	return s.others.Serve(l)
}

func (s *Server) all() []*http.Server {
	if s.others == nil {
		return []*http.Server{s.first, s.second}
	}
	return []*http.Server{s.first, s.second, s.others}
}

// Shutdown ends the server once all requests are answered, or ctx is done, which is its error then.
func (s *Server) Shutdown(ctx context.Context) error {
	ended, all := make(chan error), s.all()
	for _, one := range all {
		go func() { ended <- one.Shutdown(ctx) }() // ends with ctx
	}
	var err error
	for range all {
		err = errors.Join(err, <-ended)
	}
	return err
}

// Close ends the server at once.
func (s *Server) Close() (err error) {
	for _, one := range s.all() {
		err = errors.Join(err, one.Close())
	}
	return err
}

// Release lets go of the clients, over window, and then of those whose requests are passed through. What has not gone by grace after
// window is waited for as long again, then cut.
func (s *Server) Release(window, grace time.Duration) {
	s.proxy.probe.Stop()
	released := make(chan struct{})
	go func() { defer close(released); s.proxy.Drain(window) }() // ends when the last client has gone, or is cut below
	ctx, cancel := context.WithTimeout(context.Background(), window+grace)
	defer cancel()
	select {
	case <-released:
	case <-ctx.Done():
	}
	ctx, cancel = context.WithTimeout(context.Background(), grace)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
	<-released
}

// Drain tells all SSE clients to come back, each at a random moment of window, and returns when they have gone.
// Clients that come meanwhile are told the same at once. Where they are being released already, it only waits.
func (p *Proxy) Drain(window time.Duration) {
	p.startDrain(window)
	p.clients.Drain(window)
}

// startDrain is Drain, but does not wait.
func (p *Proxy) startDrain(window time.Duration) {
	p.clients.StartDrain(window)
	if p.Tunnel != nil {
		p.Tunnel.Pages.StopStreams()
	}
}

// StartDrain is Drain over the window of the settings, which it returns, and does not wait.
func (p *Proxy) StartDrain() (window time.Duration) {
	window = p.Window()
	p.startDrain(window)
	return window
}

// ErrorLog is a server's or ReverseProxy's of net/http, so that logger gets what matters of its complaints.
func ErrorLog(logger *slog.Logger) *log.Logger { return log.New(&debugLog{log: logger}, "", 0) }

// debugLog logs net/http's complaints about its peers at debug level, without what they quote. That a handler panicked, or that no
// connection is accepted any more, is an error and a warning: the latter once, as it is repeated.
type debugLog struct {
	log  *slog.Logger
	said atomic.Bool // that no connection is accepted
}

// lateBody is the panic of net/http's own (go 1.26.8) with which it ends a connection whose request's body goes on to come after the
// answer, where both may flow at once (EnableFullDuplex). Its client has had the whole answer, and can bring it about at will.
const lateBody = "invalid concurrent Body.Read call"

func (d *debugLog) Write(p []byte) (int, error) {
	level, text := slog.LevelDebug, ""
	if bytes.HasPrefix(p, []byte("http: Accept error")) && d.said.CompareAndSwap(false, true) {
		level = slog.LevelWarn
	}
	panicked := bytes.HasPrefix(p, []byte("http: panic")) || bytes.HasPrefix(p, []byte("http2: panic"))
	if panicked && !bytes.Contains(p, []byte(lateBody)) {
		level, text = slog.LevelError, string(p)
	} else {
		text = upstream.Complaint(string(p))
	}
	d.log.Log(context.Background(), level, "net/http", "err", text)
	return len(p), nil
}
