// Sidestream is a sidecar: it stands in front of a legacy service, subscribes to its WebSocket feeds or polls its JSON
// endpoints, and re-exposes them to browsers as Server-Sent Events. This file is its commands and their lifetimes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lmittmann/tint"

	"sidestream/config"
	"sidestream/e2e/legacy"
	"sidestream/proxy"
	"sidestream/proxy/admin"
	"sidestream/proxy/deliver"
	"sidestream/proxy/upstream"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "dev"

const usage = `Sidestream re-exposes a legacy service's WebSocket feeds and JSON endpoints as Server-Sent Events.

usage: sidestream [-env-file FILE] [COMMAND]    (SSE_ENV_FILE=FILE does the same)

  (no command)         serve, as the SSE_ variables say
  check                validate them; print the routes and who shares what
  tap ROUTE [K=V ...]  print a route's events without serving; K is path.NAME, query.NAME, header.NAME or cookie.NAME
  demo                 a small legacy service, the sidecar in front of it, and a page that shows both
  healthcheck [-ready] ask the admin port of a running sidecar; exit status 0 when it is well
  version
`

func main() {
	// The second signal is not caught any more and ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	go func() { <-ctx.Done(); stop() }() // ends with the first signal, or the process
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// errUsage ends a command whose words were off with exit status 2.
var errUsage = errors.New("usage")

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	err := command(ctx, args, environ, stdout, stderr)
	var wrong *config.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case errors.As(err, &wrong), errors.Is(err, errUsage):
		fmt.Fprintln(stderr, err)
		return 2
	}
	fmt.Fprintln(stderr, "sidestream:", err)
	return 1
}

func command(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	args, environ, err := options(args, environ)
	if err != nil {
		return err
	}
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	load := func() (*config.Config, error) { return config.Load(environ, config.ReadFile) }
	switch name {
	case "tap":
	case "healthcheck":
		return healthcheck(ctx, args, environ)
	case "help":
		return flag.ErrHelp
	case "-version", "--version":
		name = "version"
		fallthrough
	case "", "check", "demo", "version":
		if len(args) > 0 {
			return fmt.Errorf("%w: %s takes no arguments, got %q", errUsage, name, args[0])
		}
	default:
		return fmt.Errorf("%w: no command %q; there are check, tap, demo, healthcheck and version", errUsage, name)
	}
	switch name {
	case "version":
		_, err := fmt.Fprintln(stdout, "sidestream", version)
		return err
	case "demo":
		return demo(ctx, environ, stdout, stderr)
	}
	c, err := load()
	if err != nil {
		return err
	}
	switch name {
	case "check":
		return check(c, stdout)
	case "tap":
		return tap(ctx, c, args, stdout, stderr)
	}
	return serving(c, stderr, func(log *slog.Logger, lines *admin.Lines) error { return serve(ctx, c, log, lines, grace, nil) })
}

// serving runs f with a log that never makes it wait, and goes on where what reads the log is stuck or gone.
func serving(c *config.Config, stderr io.Writer, f func(*slog.Logger, *admin.Lines) error) error {
	signal.Ignore(syscall.SIGPIPE) // of stderr; otherwise the next line would end the process
	lines := &admin.Lines{To: stderr}
	log := logger(c, lines, isTerminal(stderr))
	stdlog.SetOutput(proxy.ErrorLog(log).Writer()) // libraries speak to it, and quote what upstreams say
	stdlog.SetFlags(0)
	defer stdlog.SetOutput(stderr)
	lines.Said = func(lost int64) { log.Warn("log lines were lost: what reads them was stuck or gone", "lines", lost) }
	go lines.Run() // ends with Close
	defer lines.Close(time.Second)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer close(hangUp)
	defer signal.Stop(hangUp)
	go func() { // ends with hangUp
		for range hangUp {
			log.Warn("SIGHUP is ignored: the configuration is read once; restart the sidecar to change it")
		}
	}()
	return f(log, lines)
}

// options takes -env-file out of args, wherever it stands, or else SSE_ENV_FILE out of environ, and overlays environ with
// the file's content.
func options(args, environ []string) (rest, env []string, err error) {
	option, files := "SSE_ENV_FILE", []string(nil)
	for _, entry := range environ {
		if file, ok := strings.CutPrefix(entry, "SSE_ENV_FILE="); !ok {
			env = append(env, entry)
		} else if file != "" {
			files = []string{file}
		}
	}
	for i := 0; i < len(args); i++ {
		switch name, file, given := strings.Cut(args[i], "="); name {
		case "--env-file", "-env-file":
			if !given {
				if i++; i == len(args) {
					return nil, nil, fmt.Errorf("%w: -env-file needs the name of a file", errUsage)
				}
				file = args[i]
			}
			if option == "SSE_ENV_FILE" { // which the command's own words replace
				option, files = "-env-file", nil
			}
			files = append(files, file)
		case "-h", "-help", "--help":
			return nil, nil, flag.ErrHelp
		default:
			rest = append(rest, args[i])
		}
	}
	for _, file := range files {
		data, err := config.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %v", errUsage, option, err)
		}
		if env, err = config.Overlay(env, data); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %v", errUsage, file, err)
		}
	}
	return rest, env, nil
}

func isTerminal(w io.Writer) bool {
	file, _ := w.(*os.File)
	if file == nil {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// logger writes for a person at a terminal, for machines otherwise.
func logger(c *config.Config, w io.Writer, terminal bool) *slog.Logger {
	if c.LogFormat == "json" || c.LogFormat == "auto" && !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: c.LogLevel}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: c.LogLevel, TimeFormat: time.TimeOnly, NoColor: !terminal || os.Getenv("NO_COLOR") != ""}))
}

// serve runs the sidecar until ctx is done, then lets everyone go: readiness off, clients, streams with their upstreams,
// the admin port last, after grace for what still runs. started, if not nil, is called with the public address once it answers.
func serve(ctx context.Context, c *config.Config, log *slog.Logger, lines *admin.Lines, grace time.Duration, started func(net.Addr)) error {
	var certificate *proxy.Certificate
	if c.TLSCert != "" {
		var err error
		if certificate, err = proxy.NewCertificate(c.TLSCert, c.TLSKey, log); err != nil {
			return err
		}
	}
	public, err := deliver.Listen(c.Listen)
	if err != nil {
		return fmt.Errorf("SSE_LISTEN: %w; choose another address", err)
	}
	var operator net.Listener
	if c.AdminListen != "" {
		if operator, err = net.Listen("tcp", c.AdminListen); err != nil {
			public.Close()
			return fmt.Errorf("SSE_ADMIN_LISTEN: %w; choose another address, or off", err)
		}
		if operator, err = admin.NewReserve(operator, log); err != nil {
			public.Close()
			return fmt.Errorf("SSE_ADMIN_LISTEN: %w", err)
		}
	}
	p := proxy.New(c.Settings, log)
	s := &sidecar{proxy: p, drain: c.Drain, grace: grace, log: log, failed: make(chan error, 2), server: proxy.NewServer(p, certificate, log)}
	s.untried.Store(int64(p.EagerRoutes()))
	if operator != nil {
		port := admin.Port{Proxy: p, Ready: s.ready, Version: version, Lines: lines, Address: c.AdminListen, Hosts: c.AdminHosts}
		s.admin = &http.Server{Handler: port.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: proxy.ErrorLog(log)}
		go func() { s.failed <- s.admin.Serve(operator) }() // ends with stop
	}
	go func() { s.failed <- s.server.Serve(public) }() // ends with stop
	log.Info("sidestream serves", "listen", public.Addr().String(), "routes", len(p.Routes), "version", version)
	if started != nil {
		started(public.Addr())
	}
	return s.run(ctx)
}

// sidecar is what a running sidecar consists of.
type sidecar struct {
	proxy   *proxy.Proxy
	server  *proxy.Server
	admin   *http.Server // nil when off
	drain   time.Duration
	grace   time.Duration // see grace
	log     *slog.Logger
	untried atomic.Int64 // eager routes that have neither connected nor failed yet
	failed  chan error   // a server that does not serve any more
}

func (s *sidecar) ready() bool { return s.untried.Load() <= 0 && !s.proxy.Draining() }

// run returns when ctx is done or a server has failed, and everything has stopped.
func (s *sidecar) run(ctx context.Context) (err error) {
	eager, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() { defer close(kept); s.proxy.Eager(eager, func() { s.untried.Add(-1) }) }() // ends with eager
	select {
	case <-ctx.Done():
		s.log.Info("draining", "window", s.drain.String())
	case err = <-s.failed:
		s.log.Error("a listener failed", "err", err)
	}
	s.release()
	stop()
	s.proxy.Close()
	<-kept
	if s.admin != nil {
		s.admin.Close()
	}
	s.log.Info("sidestream stopped")
	return err
}

// grace is how long after the drain window what still runs is waited for: requests that are passed through, and clients
// that take nothing.
const grace = 2 * time.Second

// release lets the clients go, then those whose requests are passed through.
func (s *sidecar) release() {
	released := make(chan struct{})
	go func() { defer close(released); s.proxy.Drain(s.drain) }() // ends when the last client has gone, or is cut below
	ctx, cancel := context.WithTimeout(context.Background(), s.drain+s.grace)
	defer cancel()
	select {
	case <-released:
	case <-ctx.Done():
	}
	ctx, cancel = context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
	<-released
}

// check prints what the configuration amounts to.
func check(c *config.Config, w io.Writer) error {
	to := "nothing: other requests get 404 (SSE_UPSTREAM is not set)"
	if c.Upstream != nil {
		redact := upstream.Redact
		if c.UpstreamFile {
			redact = upstream.RedactAll
		}
		to = redact(c.Upstream.String())
	}
	fmt.Fprintf(w, "listen   %s\nadmin    %s\nupstream %s\n", c.Listen, orOff(c.AdminListen), to)
	if c.Tunnel != nil {
		fmt.Fprintf(w, "tunnel   WebSockets under %s, over /_sidestream/tunnel\n", strings.Join(c.Tunnel.Prefixes, ", "))
	}
	for _, rt := range c.Routes {
		kind, sharing := "subscribes to", "one upstream connection, shared by all clients"
		if rt.Upstream.Polls() {
			kind = "polls"
		}
		if needs := rt.Upstream.Needs(); len(needs) > 0 {
			sharing = "one upstream connection for each different " + strings.Join(needs, ", ")
		}
		fmt.Fprintf(w, "\nroute %s\n  path    %s\n  from    %s %s\n  sharing %s\n", rt.Name, rt.Path, kind, rt.Upstream.From(), sharing)
		if rt.Send {
			fmt.Fprintln(w, "  send    POST to the path sends one message upstream")
		}
	}
	_, err := fmt.Fprintln(w, "\nok")
	return err
}

func orOff(s string) string {
	if s == "" {
		return "off"
	}
	return s
}

// tap prints a route's events until the stream is finished or ctx is done.
func tap(ctx context.Context, c *config.Config, args []string, stdout, stderr io.Writer) error {
	var names []string
	for _, rt := range c.Routes {
		names = append(names, rt.Name)
		if len(args) > 0 && rt.Name == strings.ToLower(args[0]) {
			err := proxy.Tap(ctx, rt, args[1:], stdout, logger(c, stderr, isTerminal(stderr)))
			if errors.Is(err, proxy.ErrWords) {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return err
		}
	}
	return fmt.Errorf("%w: tap needs the name of a route; there are: %s", errUsage, strings.Join(names, ", "))
}

// demo runs the legacy service and a sidecar in front of it. Only the addresses are taken from the environment.
func demo(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	service := legacy.New()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	env := append(legacy.Env(l.Addr().String()), "SSE_DRAIN=250ms") // who has only looked shall not wait
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SSE_LISTEN") || strings.HasPrefix(name, "SSE_ADMIN_LISTEN") {
			env = append(env, v)
		}
	}
	c, err := config.Load(env, config.ReadFile)
	if err != nil {
		l.Close()
		return err
	}
	readers := &legacy.Readers{Service: service}
	old := &http.Server{Handler: readers.Handler(service.Handler()), ReadHeaderTimeout: 10 * time.Second}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var ended [2]chan struct{}
	for i, f := range []func(){func() { service.Run(running) }, func() { old.Serve(l) }} { // end below
		ended[i] = make(chan struct{})
		go func() { defer close(ended[i]); f() }()
	}
	started := func(addr net.Addr) {
		status := ""
		if c.AdminListen != "" {
			status = "http://" + admin.Local(c.AdminListen) + "/api/status"
		}
		readers.Front("http://"+admin.Local(addr.String())+"/prices", status)
		fmt.Fprintf(stdout, "\n  Open http://%s/ — the legacy service's page, through the sidecar. Ctrl-C ends it.\n\n", admin.Local(addr.String()))
	}
	err = serving(c, stderr, func(log *slog.Logger, lines *admin.Lines) error {
		return serve(ctx, c, log, lines, 250*time.Millisecond, started)
	})
	stop()
	readers.Close()
	old.Close()
	<-ended[0]
	<-ended[1]
	return err
}

// healthcheck asks a running sidecar how it is. It reads nothing but the addresses, so that it works wherever the
// sidecar does.
func healthcheck(ctx context.Context, args, environ []string) error {
	path := "/livez"
	switch {
	case len(args) == 1 && (args[0] == "-ready" || args[0] == "--ready"):
		path = "/readyz"
	case len(args) > 0:
		return fmt.Errorf("%w: healthcheck takes -ready or nothing, got %q", errUsage, args[0])
	}
	public, operator, err := config.Addresses(environ, config.ReadFile)
	if err != nil {
		return err
	}
	return admin.Check(ctx, public, operator, path)
}
