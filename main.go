// Sidestream is a sidecar: it stands in front of a legacy service, subscribes to its WebSocket feeds or polls its JSON
// endpoints, and re-exposes them to browsers as Server-Sent Events. This file is its commands and their lifetimes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sidestream/config"
	"sidestream/e2e/legacy"
	"sidestream/proxy"
	"sidestream/proxy/admin"
	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "dev"

const usage = `Sidestream re-exposes a legacy service's WebSocket feeds and JSON endpoints as Server-Sent Events.

usage: sidestream [-env-file FILE] [COMMAND]    (SSE_ENV_FILE=FILE does the same)

  (no command)         serve, as the SSE_ variables configure it
  check                validate them; print the routes and which clients share an upstream connection
  tap ROUTE [K=V ...]  print a route's events without serving; K is path.NAME, query.NAME, header.NAME, cookie.NAME or auth.NAME
  demo [-replicas N]   a small legacy service, the sidecar in front of it (or N that share a Redis), and a page that shows both
  history verify DIR   read the folder of SSE_HISTORY=file:DIR, and print what is in it, and what is damaged
  healthcheck [-ready] ask the admin port of a running sidecar; exit status 0 when it is healthy
  version
`

func main() {
	// The second signal is not caught any more and ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	go func() { <-ctx.Done(); stop() }() // ends with the first signal, or the process
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit status, 2 where the command's words or its environment were off.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	err := command(ctx, args, environ, stdout, stderr)
	var wrong *config.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case errors.As(err, &wrong), errors.Is(err, config.ErrUsage), errors.Is(err, proxy.ErrWords), errors.Is(err, admin.ErrWords), errors.Is(err, legacy.ErrWords), errors.Is(err, history.ErrWords):
		fmt.Fprintln(stderr, err)
		return 2
	}
	fmt.Fprintln(stderr, "sidestream:", err)
	return 1
}

func command(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	args, environ, err := config.EnvFiles(args, environ)
	if err != nil {
		return err
	}
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "help":
		return flag.ErrHelp
	case "healthcheck":
		return admin.Healthcheck(ctx, args, func() (public, operator string, err error) { return config.Addresses(environ, config.ReadFile) })
	case "history":
		return history.Command(args, stdout)
	case "demo":
		return legacy.RunDemo(ctx, args, environ, stdout, stderr, func(env []string, started func(public, operator string)) error {
			c, err := config.Load(env, config.ReadFile)
			if err != nil {
				return err
			}
			return serve(ctx, c, stderr, 250*time.Millisecond, func(addr net.Addr) { started(admin.URL(addr.String()), admin.URL(c.AdminListen)) })
		})
	case "tap":
	case "", "check", "version", "-version", "--version":
		if len(args) > 0 {
			return fmt.Errorf("%w: %s takes no arguments, got %q", config.ErrUsage, name, args[0])
		}
	default:
		return fmt.Errorf("%w: unknown command %q; the commands are check, tap, demo, history, healthcheck and version", config.ErrUsage, name)
	}
	if strings.Contains(name, "version") {
		_, err = fmt.Fprintln(stdout, "sidestream", version)
		return err
	}
	c, err := config.Load(environ, config.ReadFile)
	switch {
	case err != nil:
		return err
	case name == "check":
		return c.Check(stdout)
	case name == "tap":
		return proxy.TapNamed(ctx, c.Routes, args, stdout, admin.Logger(stderr, c.LogFormat, c.LogLevel))
	}
	return serve(ctx, c, stderr, grace, func(net.Addr) {})
}

// grace is how long after the drain window requests that are passed through, and clients that read nothing, are waited for.
const grace = 2 * time.Second

// sidecar is what a running sidecar consists of.
type sidecar struct {
	*config.Config
	proxy  *proxy.Proxy
	public *proxy.Server
	admin  *admin.Server
	grace  time.Duration
	log    *slog.Logger
	failed chan error // a server that does not serve any more
}

// serve runs the sidecar until ctx is done. started is called with the public address once it answers.
func serve(ctx context.Context, c *config.Config, stderr io.Writer, grace time.Duration, started func(net.Addr)) error {
	return admin.Logging(stderr, c.LogFormat, c.LogLevel, func(log *slog.Logger, lines *admin.Lines) error {
		s := &sidecar{Config: c, grace: grace, log: log, failed: make(chan error, 3)}
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
	public, err := deliver.Listen(s.Listen)
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
	s.admin = admin.Port{Proxy: s.proxy, Version: version, Lines: lines, Address: s.AdminListen, Hosts: s.AdminHosts, Token: s.AdminToken, Payloads: s.AdminPayloads}.Server(s.log)
	s.listen(operator, s.admin.Serve)
	s.listen(others, s.public.ServePeers)
	s.listen(public, s.public.Serve)
	s.log.Info("sidestream is serving", "listen", public.Addr().String(), "routes", len(s.proxy.Routes()), "version", version)
	started(public.Addr())
	return nil
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
	eager, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() { defer close(kept); s.proxy.Eager(eager) }() // ends with eager
	select {
	case <-ctx.Done():
		s.log.Info("draining", "window", s.Drain.String())
	case err = <-s.failed:
		s.log.Error("a listener failed", "err", err)
	}
	s.public.Release(s.Drain, s.grace)
	stop()
	s.proxy.Close()
	<-kept
	s.admin.Close()
	s.log.Info("sidestream stopped")
	return err
}
