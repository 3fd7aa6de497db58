package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"sidestream/config"
	"sidestream/proxy"
	"sidestream/proxy/admin"
	"sidestream/proxy/deliver"
)

// grace is how long after the drain window requests that are passed through, and clients that read nothing, are waited for.
const grace = 2 * time.Second

// sidecar is what a running sidecar consists of.
type sidecar struct {
	*config.Config // that it was started with
	source         config.Source
	proxy          *proxy.Proxy
	public         *proxy.Server
	admin          *admin.Server
	grace          time.Duration
	level          *slog.LevelVar
	log            *slog.Logger
	reloader       *config.Reloader
	hangUp         chan os.Signal
	failed         chan error // a server that does not serve any more
}

// serve runs the sidecar until ctx is done. started is called with the public address once it answers.
func serve(ctx context.Context, c *config.Config, source config.Source, stderr io.Writer, grace time.Duration, started func(net.Addr)) error {
	s := &sidecar{Config: c, source: source, grace: grace, hangUp: make(chan os.Signal, 1), failed: make(chan error, 3)}
	signal.Notify(s.hangUp, syscall.SIGHUP) // which would end the process otherwise
	defer signal.Stop(s.hangUp)
	return admin.Logging(stderr, c.LogFormat, c.LogLevel, func(log *slog.Logger, lines *admin.Lines) error {
		s.log, s.level = log, lines.Tail.Level
		if err := s.start(lines, started); err != nil {
			return err
		}
		return s.run(ctx)
	})
}

// start listens and serves, on the admin port too.
func (s *sidecar) start(lines *admin.Lines, started func(net.Addr)) error {
	certificate, err := proxy.NewCertificate(s.TLSCert, s.TLSKey, s.log)
	if err != nil {
		return err
	}
	public, err := s.listener()
	if err != nil {
		return fmt.Errorf("SSE_LISTEN: %w; choose another address", err)
	}
	var others net.Listener
	operator, err := admin.Listen(s.AdminListen, s.log)
	if err == nil {
		others, err = s.Settings.Open(s.History, s.log)
	}
	if err != nil {
		return errors.Join(err, public.Close())
	}
	s.proxy = proxy.New(s.Settings, s.log)
	s.public = proxy.NewServer(s.proxy, certificate, s.log)
	s.reloader = &config.Reloader{Source: s.source, Config: s.Config, Apply: s.apply, Reloads: &s.proxy.Reloads, Log: s.log}
	s.admin = admin.Port{Proxy: s.proxy, Version: version, Lines: lines, Address: s.AdminListen, Hosts: s.AdminHosts,
		Token: s.AdminToken, Payloads: s.AdminPayloads, Reload: s.reloader.Reload}.Server(s.log)
	s.listen(operator, s.admin.Serve)
	s.listen(others, s.public.ServePeers)
	s.listen(public, s.public.Serve)
	s.log.Info("sidestream is serving", "listen", public.Addr().String(), "routes", len(s.proxy.Routes()), "version", version)
	started(public.Addr())
	return nil
}

// listener is the public one.
func (s *sidecar) listener() (net.Listener, error) {
	if path, ok := strings.CutPrefix(s.Listen, "unix:"); ok {
		return deliver.ListenUnix(path, s.ListenMode)
	}
	return deliver.Listen(s.Listen)
}

// listen serves a listener, if it is one, until run ends.
func (s *sidecar) listen(l net.Listener, serve func(net.Listener) error) {
	if l != nil {
		go func() { s.failed <- serve(l) }()
	}
}

// run returns when ctx is done or a server has failed, and everything has stopped: readiness first, then clients, streams
// with their upstreams, the admin port last.
func (s *sidecar) run(ctx context.Context) (err error) {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	kept.Go(func() { s.proxy.Eager(serving) })            // ends with serving
	kept.Go(func() { s.reloader.Run(serving, s.hangUp) }) // the same
	select {
	case <-ctx.Done():
		s.log.Info("draining", "window", s.proxy.Window().String())
	case err = <-s.failed:
		s.log.Error("a listener failed", "err", err)
	}
	s.public.Release(s.proxy.Window(), s.grace)
	stop()
	s.proxy.Close()
	kept.Wait()
	s.admin.Close()
	s.log.Info("sidestream stopped")
	return err
}

// apply has the sidecar go by another configuration.
func (s *sidecar) apply(next *config.Config) error {
	if err := s.proxy.Reload(next.Settings); err != nil {
		return err
	}
	if next.LogLevel != s.reloader.Config.LogLevel { // else it may have been set otherwise
		s.level.Set(next.LogLevel)
	}
	return nil
}
