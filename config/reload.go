package config

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sidestream/proxy"
)

// This file has a running sidecar go by what its configuration says now. The rules:
//
//   - Everything is read and checked first. Where anything is wrong, every problem is reported and nothing changes.
//   - The environment of the process does not change while it runs; the files of -env-file and those of _FILE variables do. They are
//     looked at by their contents, once a second: editors and Kubernetes replace files rather than write to them.
//   - What has changed counts once it has stayed the same for a second: a file is not read while it is being written.

// lookEvery is how often files are looked at.
const lookEvery = time.Second

// Reloader reloads the configuration of one sidecar. Its exported fields are set before it is used.
type Reloader struct {
	Source  Source
	Config  *Config                  // that the sidecar goes by; guarded by mu once it is used
	Apply   func(next *Config) error // has the sidecar go by another one; after an error it goes by the one that it had
	Reloads *proxy.Reloads           // are told what has come of it
	Log     *slog.Logger

	mu   sync.Mutex // one reload at a time
	seen sighted    // files, as they were when they were read last
	last sighted    // as they were when they were looked at last
}

// Run reloads whenever hangUp has a signal or a file has changed, until ctx is done.
func (r *Reloader) Run(ctx context.Context, hangUp <-chan os.Signal) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
			r.Reload("SIGHUP")
		case <-look.C:
			if r.changed() {
				r.Reload("a file has changed")
			}
		}
	}
}

// changed reports whether the files hold something that has not been read, and held the same when they were looked at before.
func (r *Reloader) changed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = r.Config.saw
	}
	now := r.seen.again(ReadFile)
	settled := maps.Equal(now, r.last)
	r.last = now
	return settled && !maps.Equal(now, r.seen)
}

// Reload reads the configuration and has the sidecar go by it. why is for the log.
func (r *Reloader) Reload(why string) proxy.Reloaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, saw, err := r.Source.load()
	r.seen = saw
	var d Diff
	if err == nil {
		d = r.Config.Diff(next)
		err = d.applicable()
	}
	if err == nil {
		next.adopt(r.Config, d)
		err = r.Apply(next)
	}
	r.Reloads.Note(!d.Nothing(), err)
	if err != nil {
		return r.failed(why, err)
	}
	r.Config = next
	return r.done(why, d)
}

// applicable fails, with an *Error, when there is something that cannot change.
func (d Diff) applicable() error {
	var ps problems
	for _, variable := range d.Restart {
		ps.add(variable, "needs a restart; nothing was changed")
	}
	return ps.err()
}

// failed reports every problem.
func (r *Reloader) failed(why string, err error) proxy.Reloaded {
	report := proxy.Reloaded{Result: "failed", Problems: strings.Split(err.Error(), "\n")}
	var wrong *Error
	if errors.As(err, &wrong) {
		report.Problems = nil
		for _, p := range wrong.Problems {
			report.Problems = append(report.Problems, p.Variable+": "+p.Text)
		}
	}
	for _, problem := range report.Problems {
		r.Log.Error("the configuration was not reloaded, nothing has changed", "trigger", why, "err", problem)
	}
	return report
}

// done reports what has changed.
func (r *Reloader) done(why string, d Diff) proxy.Reloaded {
	report := proxy.Reloaded{Result: "ok", Changed: d.named(Changed), Added: d.named(Added), Removed: d.named(Removed), Settings: d.Global}
	if d.Nothing() {
		report.Result = "unchanged"
		r.Log.Info("the configuration is read again: nothing has changed", "trigger", why)
		return report
	}
	said := []any{"trigger", why}
	for _, part := range []struct {
		key   string
		names []string
	}{{"changed", report.Changed}, {"added", report.Added}, {"removed", report.Removed}, {"settings", d.variables()}} {
		if len(part.names) > 0 {
			said = append(said, part.key, part.names)
		}
	}
	r.Log.Info("the configuration is reloaded", said...)
	return report
}

// variables are all that have changed.
func (d Diff) variables() []string {
	all := slices.Clone(d.Global)
	for _, rt := range d.Routes {
		all = append(all, rt.Because...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
