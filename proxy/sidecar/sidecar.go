// Package sidecar is the life of a sidecar: what starts, and in which order it stops. It knows nothing of the environment that its settings come
// from; main gives it those, and what a reload is.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/admin"
	"sidestream/proxy/deliver"
	"sidestream/proxy/descriptors"
	"sidestream/proxy/history"
)

// Sidecar is what a sidecar is made of.
type Sidecar struct {
	proxy.Settings
	Listen     string         // HOST:PORT, or unix: and a path
	ListenMode fs.FileMode    // of that path
	History    history.Opener // nil: the ring is all there is
	Admin      admin.Port     // its address and whom it answers; "" for none
	Grace      time.Duration  // how long after the drain window requests that are passed through, and clients that read nothing, are waited for
	Stderr     io.Writer
	LogFormat  string // auto, text or json
	LogLevel   slog.Level
	KeepPace   bool // how soon Go's garbage collector comes is the sidecar's to decide: nobody has set GOGC

	// Reloads returns, once the proxy is there, what POST /api/reload does, and what reloads by itself until ctx is done, and whenever a
	// signal comes.
	Reloads func(p *proxy.Proxy, level *slog.LevelVar, log *slog.Logger) (reload func(why string) proxy.Reloaded, watch func(ctx context.Context, hangUp <-chan os.Signal))
}

// running is one that runs.
type running struct {
	Sidecar
	proxy  *proxy.Proxy
	public *proxy.Server
	admin  *admin.Server
	log    *slog.Logger
	watch  func(context.Context, <-chan os.Signal)
	hangUp chan os.Signal
	failed chan error // a server that does not serve any more
}

// Serve runs the sidecar until ctx is done, and drains it. started is called with the public address once it answers.
func (s Sidecar) Serve(ctx context.Context, started func(net.Addr)) error {
	r := &running{Sidecar: s, hangUp: make(chan os.Signal, 1), failed: make(chan error, 3)}
	signal.Notify(r.hangUp, syscall.SIGHUP) // which would end the process otherwise
	defer signal.Stop(r.hangUp)
	return admin.Logging(s.Stderr, s.LogFormat, s.LogLevel, func(log *slog.Logger, lines *admin.Lines) error {
		r.log = log
		if err := r.start(lines, started); err != nil {
			return err
		}
		return r.run(ctx)
	})
}

// start listens and serves, on the admin port too.
func (s *running) start(lines *admin.Lines, started func(net.Addr)) error {
	certificate, err := proxy.NewCertificate(s.TLSCert, s.TLSKey, s.log)
	if err != nil {
		return err
	}
	public, err := s.listener()
	if err != nil {
		return fmt.Errorf("SSE_LISTEN: %w; choose another address", err)
	}
	others, operator, err := s.beside(&public)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	s.proxy = proxy.New(s.Settings, s.log)
	s.public = proxy.NewServer(s.proxy, certificate, s.log)
	s.Admin.Reload, s.watch = s.Reloads(s.proxy, lines.Tail.Level, s.log)
	s.Admin.Proxy, s.Admin.Lines = s.proxy, lines
	s.admin = s.Admin.Server(s.log)
	s.listen(operator, s.admin.Serve)
	s.listen(others, s.public.ServePeers)
	s.listen(public, s.public.Serve)
	s.log.Info("sidestream is serving", "listen", public.Addr().String(), "routes", len(s.proxy.Routes()), "version", s.Admin.Version)
	started(public.Addr())
	return nil
}

// beside listens for replicas and for the operator, for whom public and others keep descriptors free from now on. nil: not wanted.
func (s *running) beside(public *net.Listener) (others, operator net.Listener, err error) {
	if s.Admin.Address == "" {
		others, err = s.Settings.Open(s.History, s.log)
		return others, nil, err
	}
	reserve, err := descriptors.New(s.log)
	if err != nil {
		return nil, nil, fmt.Errorf("SSE_ADMIN_LISTEN: %w", err)
	}
	if operator, err = admin.Listen(s.Admin.Address, reserve); err != nil {
		return nil, nil, err
	}
	if others, err = s.Settings.Open(s.History, s.log); err != nil {
		return nil, nil, errors.Join(err, operator.Close())
	}
	*public = deliver.Yielding(*public, reserve)
	if others != nil {
		others = deliver.Yielding(others, reserve)
	}
	return others, operator, nil
}

// listener is the public one.
func (s *running) listener() (net.Listener, error) {
	if path, ok := strings.CutPrefix(s.Listen, "unix:"); ok {
		return deliver.ListenUnix(path, s.ListenMode)
	}
	return deliver.Listen(s.Listen)
}

// listen serves a listener, if it is one, until run ends.
func (s *running) listen(l net.Listener, serve func(net.Listener) error) {
	if l != nil {
		go func() { s.failed <- serve(l) }()
	}
}

// run returns when ctx is done or a server has failed, and everything has stopped: readiness first, then clients, streams
// with their upstreams, the admin port last.
func (s *running) run(ctx context.Context) (err error) {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	kept.Go(func() { s.proxy.Eager(serving) })     // ends with serving
	kept.Go(func() { s.watch(serving, s.hangUp) }) // the same
	kept.Go(func() { giveBack(serving) })          // the same
	if s.KeepPace {
		kept.Go(func() { keepPace(serving, paceTime) }) // the same
	}
	var noting sync.WaitGroup
	noting.Go(func() { s.proxy.KeepMigration(serving) }) // the same
	select {
	case <-ctx.Done():
		s.log.Info("draining", "window", s.proxy.Window().String())
	case err = <-s.failed:
		s.log.Error("a listener failed", "err", err)
	}
	s.public.Release(s.proxy.Window(), s.Grace)
	stop()
	noting.Wait() // while there is a history
	s.proxy.Close()
	kept.Wait()
	s.admin.Close()
	s.log.Info("sidestream stopped")
	return err
}
