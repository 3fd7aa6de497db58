// Sidestream is a sidecar: it stands in front of a legacy service, subscribes to its WebSocket feeds or polls its JSON
// endpoints, and re-exposes them to browsers as Server-Sent Events. This file is its commands and their lifetimes.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"sidestream/config"
	"sidestream/e2e/legacy"
	"sidestream/proxy"
	"sidestream/proxy/admin"
	"sidestream/proxy/doctor"
	"sidestream/proxy/history"
	"sidestream/proxy/migrate/learn"
	"sidestream/proxy/sidecar"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3". So is revision where the build does not see the repository.
var version, revision = "dev", ""

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
		fmt.Fprint(stdout, config.Usage())
		return 0
	case errors.As(err, &wrong), errors.Is(err, config.ErrUsage), errors.Is(err, proxy.ErrWords), errors.Is(err, proxy.ErrCompareWords), errors.Is(err, admin.ErrWords), errors.Is(err, admin.ErrDrainWords), errors.Is(err, doctor.ErrWords), errors.Is(err, legacy.ErrWords), errors.Is(err, learn.ErrWords), errors.Is(err, history.ErrWords):
		fmt.Fprintln(stderr, err)
		return 2
	}
	fmt.Fprintln(stderr, "sidestream:", err)
	return 1
}

func command(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	args, source, err := config.SourceOf(args, environ)
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
		return admin.Healthcheck(ctx, args, source.Addresses)
	case "drain":
		return admin.Drain(ctx, args, source.Addresses, source.AdminToken)
	case "history":
		return history.Command(args, stdout)
	case "doctor":
		return doctor.Command(ctx, args, stdout)
	case "learn":
		return watch(ctx, args, source, stdout, stderr)
	case "demo":
		return demo(ctx, args, source, stdout, stderr)
	case "manual":
		return config.Manual(args, version, stdout)
	case "tap", "compare":
	case "check":
		return check(ctx, args, source, stdout, stderr)
	case "", "version", "-version", "--version":
		if len(args) > 0 {
			return fmt.Errorf("%w: %s takes no arguments, got %q", config.ErrUsage, name, args[0])
		}
	default:
		return fmt.Errorf("%w: unknown command %q; the commands are %s", config.ErrUsage, name, config.Names())
	}
	if strings.Contains(name, "version") {
		_, err = fmt.Fprintln(stdout, "sidestream", version, built())
		return err
	}
	c, err := source.Load()
	switch {
	case err != nil:
		return err
	case name == "compare":
		at := proxy.Sidecar{Listen: c.Listen, Secure: c.TLSCert != ""}
		return proxy.Compared{Routes: c.Routes, Sidecar: at, Log: admin.Logger(stderr, c.LogFormat, c.LogLevel)}.Compare(ctx, args, stdout)
	case name == "tap":
		return proxy.TapNamed(ctx, c.Routes, args, stdout, admin.Logger(stderr, c.LogFormat, c.LogLevel))
	}
	return serve(ctx, c, source, stderr, grace, func(net.Addr) {})
}

// built is the revision that this build is of, and what it was built with.
func built() string {
	of, modified := revision, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && of == "":
				of = s.Value
			case s.Key == "vcs.modified" && s.Value == "true" && revision == "":
				modified = ", modified"
			}
		}
	}
	return fmt.Sprintf("(revision %s%s, %s, %s/%s)", cmp.Or(of, "unknown"), modified, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// check prints what the configuration amounts to, with -live whether its routes connect, or with -diff what a reload would do.
func check(ctx context.Context, args []string, source config.Source, stdout, stderr io.Writer) error {
	live := slices.Contains(args, "-live")
	file, err := config.DiffFile(slices.DeleteFunc(args, func(word string) bool { return word == "-live" }))
	switch {
	case err != nil:
		return err
	case live && file != "":
		return fmt.Errorf("%w: check takes -live or -diff FILE, and not both", config.ErrUsage)
	}
	c, err := source.Load()
	switch {
	case err != nil:
		return err
	case file != "":
		return c.CheckDiff(stdout, source, file)
	}
	if err = c.Check(stdout); err == nil && live {
		return admin.CheckLive(ctx, c.Routes, stdout, admin.Logger(stderr, c.LogFormat, slog.LevelError))
	}
	return err
}

// demo runs the demo, whose sidecar is made of an environment of the demo's own.
func demo(ctx context.Context, args []string, source config.Source, stdout, stderr io.Writer) error {
	environ, err := source.Environ()
	if err != nil {
		return err
	}
	return legacy.RunDemo(ctx, args, environ, stdout, stderr, func(env []string, started func(public, operator string)) error {
		_, source, err := config.SourceOf(nil, env)
		if err != nil {
			return err
		}
		c, err := source.Load()
		if err != nil {
			return err
		}
		return serve(ctx, c, source, stderr, 250*time.Millisecond, func(addr net.Addr) { started(admin.URL(addr.String()), admin.URL(c.AdminListen)) })
	})
}

// watch learns what could be a route, of what passes through a sidecar without any.
func watch(ctx context.Context, args []string, source config.Source, stdout, stderr io.Writer) error {
	return learn.Command(ctx, args, stdout, stderr, func(ctx context.Context, upstream string, watching func(*learn.Learner, string, http.RoundTripper)) error {
		c, source, err := source.Learning(upstream)
		if err != nil {
			return err
		}
		return serve(ctx, c, source, stderr, 250*time.Millisecond, func(addr net.Addr) {
			watching(c.Learner, admin.URL(addr.String()), c.Direct())
			if problem := c.Unreachable(ctx); problem != "" {
				fmt.Fprintf(stderr, "warning: %s cannot be reached: %s; start it, or end this and correct the address\n", upstream, problem)
			}
		})
	})
}

// grace is how long after the drain window requests that are passed through, and clients that read nothing, are waited for.
const grace = 2 * time.Second

// serve runs the sidecar until ctx is done. started is called with the public address once it answers.
func serve(ctx context.Context, c *config.Config, source config.Source, stderr io.Writer, grace time.Duration, started func(net.Addr)) error {
	return sidecar.Sidecar{
		Settings: c.Settings, Listen: c.Listen, ListenMode: c.ListenMode, History: c.History, Grace: grace, Stderr: stderr, LogFormat: c.LogFormat, LogLevel: c.LogLevel, KeepPace: os.Getenv("GOGC") == "",
		Admin: admin.Port{Version: version, Address: c.AdminListen, Hosts: c.AdminHosts, Token: c.AdminToken, Payloads: c.AdminPayloads},
		Reloads: func(p *proxy.Proxy, level *slog.LevelVar, log *slog.Logger) (func(string) proxy.Reloaded, func(context.Context, <-chan os.Signal)) {
			r := &config.Reloader{Source: source, Config: c, Reloads: &p.Reloads, Log: log}
			r.Apply = func(next *config.Config) error {
				if err := p.Reload(next.Settings); err != nil {
					return err
				}
				if next.LogLevel != r.Config.LogLevel { // else it may have been set otherwise
					level.Set(next.LogLevel)
				}
				return nil
			}
			return r.Reload, r.Run
		},
	}.Serve(ctx, started)
}
