package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy"
)

// running is a sidecar's configuration, with the file that it is in.
type running struct {
	*Reloader
	dir     string
	was     *Config
	applied []*Config // guarded by Reloader.mu
	fails   error     // what applying comes to; the same
	log     lockedBuffer
	hangUp  chan os.Signal
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take returns what was logged since the last call.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

const envText = "SSE_ROUTE_A_PATH=/a\nSSE_ROUTE_A_FROM=ws://legacy/\nSSE_ROUTE_B_PATH=/b\nSSE_ROUTE_B_FROM=ws://legacy/\n"

// reloading runs f beside a Reloader whose env file holds text.
func reloading(t *testing.T, text string, f func(t *testing.T, r *running)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &running{dir: dir, hangUp: make(chan os.Signal)}
		r.write(t, "env", text)
		_, source, err := SourceOf([]string{"-env-file", filepath.Join(dir, "env")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := source.Load()
		if err != nil {
			t.Fatal(err)
		}
		r.was = c
		r.Reloader = &Reloader{Source: source, Config: c, Reloads: new(proxy.Reloads), Log: slog.New(slog.NewTextHandler(&r.log, nil)), Apply: func(next *Config) error {
			if r.fails == nil {
				r.applied = append(r.applied, next)
			}
			return r.fails
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { r.Run(ctx, r.hangUp) })
		f(t, r)
		cancel()
		run.Wait()
	})
}

// write replaces a file, as editors and Kubernetes do.
func (r *running) write(t *testing.T, name, text string) {
	t.Helper()
	at := filepath.Join(r.dir, name)
	if err := errors.Join(os.WriteFile(at+".new", []byte(text), 0o600), os.Rename(at+".new", at)); err != nil {
		t.Fatal(err)
	}
}

// all are the configurations that were applied.
func (r *running) all() []*Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

func (r *running) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = err
}

// expect holds what reloads have come to, and that so many were applied.
func (r *running) expect(t *testing.T, ok, unchanged, failed int64) {
	t.Helper()
	synctest.Wait()
	if got, want := []int64{r.Reloads.OK.Load(), r.Reloads.Unchanged.Load(), r.Reloads.Failed.Load()}, []int64{ok, unchanged, failed}; !slices.Equal(got, want) || int64(len(r.all())) != ok+unchanged {
		t.Errorf("reloads %v, applied %d, want %v", got, len(r.all()), want)
	}
}

// A file that is replaced counts once it has stayed as it is for a second.
func TestReloadOfFiles(t *testing.T) {
	reloading(t, envText, func(t *testing.T, r *running) {
		was := r.was
		time.Sleep(time.Hour + lookEvery/2)
		r.expect(t, 0, 0, 0)
		r.write(t, "env", envText[:len(envText)/2]) // half of it is valid, and has no route b
		time.Sleep(lookEvery)
		r.write(t, "env", envText+"SSE_ROUTE_B_RETRY=4s\n")
		time.Sleep(lookEvery)
		r.expect(t, 0, 0, 0)
		time.Sleep(lookEvery)
		r.expect(t, 1, 0, 0)
		if now := r.all()[0]; now.Routes[0] != was.Routes[0] || now.Routes[1] == was.Routes[1] || now.Routes[1].Retry != 4*time.Second {
			t.Error("b alone has changed")
		}
		if said := r.log.take(); !strings.Contains(said, "changed=[b] settings=[SSE_ROUTE_B_RETRY]") {
			t.Errorf("logged %s", said)
		}
		r.write(t, "env", envText+"# the same\nSSE_ROUTE_B_RETRY=4s\n")
		time.Sleep(3 * lookEvery)
		r.expect(t, 1, 1, 0)
		r.hangUp <- syscall.SIGHUP
		synctest.Wait()
		r.expect(t, 1, 2, 0)
		if said := r.log.take(); strings.Count(said, "nothing has changed") != 2 || !strings.Contains(said, "trigger=SIGHUP") {
			t.Errorf("logged %s", said)
		}
		if r.Reloads.Last().Failed != nil {
			t.Error(r.Reloads.Last())
		}
	})
}

// The files of variables are looked at too, those that have come with a reload included.
func TestReloadOfVariablesFiles(t *testing.T) {
	reloading(t, envText, func(t *testing.T, r *running) {
		r.write(t, "token", "X-Token: one")
		r.write(t, "env", envText+"SSE_ROUTE_B_HEADERS_FILE="+filepath.Join(r.dir, "token")+"\n")
		time.Sleep(3 * lookEvery)
		r.expect(t, 1, 0, 0)
		b := r.all()[0].Routes[1]
		r.write(t, "token", "X-Token: two") // the route's own to look at
		time.Sleep(3 * lookEvery)
		r.expect(t, 1, 1, 0)
		if r.all()[1].Routes[1] != b {
			t.Error("a secret that rotates has made another route")
		}
		r.write(t, "token", "X-Token: two\nX-More: 1")
		time.Sleep(3 * lookEvery)
		r.expect(t, 2, 1, 0)
		if r.all()[2].Routes[1] == b {
			t.Error("another header has made no other route")
		}
	})
}

// A wrong file changes nothing, and every problem is told, without what may be a secret; so it is with one that is missing, and with what takes
// a restart.
func TestReloadThatFails(t *testing.T) {
	reloading(t, envText, func(t *testing.T, r *running) {
		for text, want := range map[string][]string{
			envText + "SSE_ROUTE_A_RETRY=often\nSSE_ROUTE_C_FROM=ws://u:secret@c/\nno variable": {"line 7: there is no ="},
			envText + "SSE_ROUTE_A_RETRY=often\nSSE_ROUTE_C_FROM=s3cret://c/":                   {`SSE_ROUTE_A_RETRY: "often"`, "SSE_ROUTE_C_FROM: does not begin", "SSE_ROUTE_C_PATH: required"},
			envText + "SSE_LISTEN=:9\nSSE_MAX_HEADER=9KiB\nSSE_MAX_CLIENTS=7":                   {"SSE_LISTEN: needs a restart; nothing was changed", "SSE_MAX_HEADER: needs a restart; nothing was changed"},
			"": {"SSE_UPSTREAM: neither it nor any route is set"},
		} {
			r.write(t, "env", text)
			synctest.Wait()
			failed := r.Reloads.Failed.Load() + 1
			time.Sleep(3 * lookEvery)
			r.expect(t, 0, 0, failed) // once: it is tried again when the file changes
			said := r.log.take()
			if n := strings.Count(said, "level=ERROR"); n != len(want) && text != envText {
				t.Errorf("%q: %d problems: %s", text, n, said)
			}
			for _, problem := range want {
				if !strings.Contains(strings.ReplaceAll(said, `\"`, `"`), problem) || strings.Contains(said, "s3cret") {
					t.Errorf("%q: logged %s, want %s", text, said, problem)
				}
			}
			if report := r.Reload("POST"); report.Result != "failed" || len(report.Problems) != len(want) || r.Reloads.Last().Failed == nil {
				t.Errorf("%q: %+v", text, report)
			}
			r.log.take()
		}
		failed := r.Reloads.Failed.Load()
		os.Remove(filepath.Join(r.dir, "env"))
		time.Sleep(3 * lookEvery)
		r.expect(t, 0, 0, failed+1)
		r.write(t, "env", envText)
		time.Sleep(3 * lookEvery)
		r.expect(t, 0, 1, failed+1)
		if last := r.Reloads.Last(); last.Failed != nil || !last.At.Equal(last.Tried) {
			t.Errorf("%+v", last)
		}
		r.fail(errors.New("it stops"))
		r.write(t, "env", envText+"SSE_MAX_CLIENTS=7")
		if report := r.Reload("POST"); report.Result != "failed" || fmt.Sprint(report.Problems) != "[it stops]" {
			t.Errorf("%+v", report)
		}
		r.fail(nil)
		if report := r.Reload("POST"); report.Result != "ok" || fmt.Sprint(report.Settings) != "[SSE_MAX_CLIENTS]" {
			t.Errorf("%+v", report)
		}
	})
}

// check -diff says the same without doing it, and no value.
func TestCheckDiff(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	const secret = "SSE_ROUTE_B_HEADERS=X-Token: s3cret\n"
	os.WriteFile(one, []byte(envText+secret), 0o600)
	_, source, err := SourceOf(nil, []string{"SSE_ENV_FILE=" + one, "SSE_MAX_CLIENTS=5"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.Load()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		envText + secret: "route a: unchanged\nroute b: unchanged\n\nnothing changes\n",
		envText + "SSE_MAX_CLIENTS=6\nSSE_MAX_STREAMS=6\nSSE_ROUTE_B_HEADERS=X-Token: s3cret2\n": "SSE_MAX_STREAMS changes at once\nroute a: unchanged\n" +
			"route b: changed (SSE_ROUTE_B_HEADERS); its clients come back within SSE_DRAIN\n\na reload does this\n",
		strings.ReplaceAll(envText, "_A_", "_C_") + secret: "route a: removed; its clients are sent away within SSE_DRAIN\nroute b: unchanged\nroute c: added\n\na reload does this\n",
		envText + secret + "SSE_LISTEN=:9":                 "SSE_LISTEN needs a restart\nroute a: unchanged\nroute b: unchanged\nfails: a reload would change nothing: SSE_LISTEN cannot change while the sidecar runs; restart it",
		"SSE_X=s3cret\n" + envText:                         "fails: a reload would change nothing:\nSSE_X: unknown; the nearest known variable is SSE_PEER",
	} {
		os.WriteFile(two, []byte(text), 0o600)
		var b strings.Builder
		if err := c.CheckDiff(&b, source, two); err != nil {
			fmt.Fprint(&b, "fails: ", err)
			if _, usage := errors.AsType[*Error](err); usage || errors.Is(err, ErrUsage) {
				t.Errorf("%q has the exit status of a command that was off", text)
			}
		}
		if b.String() != want || strings.Contains(b.String(), "s3cret") {
			t.Errorf("got  %q\nwant %q", b.String(), want)
		}
	}
	os.WriteFile(one, []byte(envText+"SSE_ADMIN_TOKEN=0123456789abcdef\nSSE_NOTHING=1"), 0o600) // the rest may be wrong
	if _, at, err := source.Addresses(); source.AdminToken() != "0123456789abcdef" || at != "127.0.0.1:9091" || err != nil {
		t.Errorf("%q at %q, %v", source.AdminToken(), at, err)
	}
	for words, want := range map[string]string{"": "", "-diff x": "x", "--diff x": "x", "-diff=x": "x", "diff x": "usage", "-diff": "usage", "-diff x y": "usage", "-live": "usage"} {
		if file, err := DiffFile(strings.Fields(words)); file != want && (want != "usage" || !errors.Is(err, ErrUsage)) {
			t.Errorf("%q: %q, %v", words, file, err)
		}
	}
}
