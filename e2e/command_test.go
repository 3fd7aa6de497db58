//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sidestream/e2e/legacy"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	code, stdout, _ := run(t, nil, "version")
	if code != 0 || !strings.HasPrefix(stdout, "sidestream ") {
		t.Errorf("status %d, %q", code, stdout)
	}
}

func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	code, _, stderr := run(t, nil, "serv")
	if code != 2 || !strings.Contains(stderr, "serv") {
		t.Errorf("status %d, %q; want 2 and the word", code, stderr)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, legacy.Env("127.0.0.1:9"), "check")
	if code != 0 {
		t.Fatalf("status %d: %s", code, stderr)
	}
	for _, want := range []string{"prices", "/prices", "weather", "/weather", "job", "/jobs/{id}"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in %s", want, stdout)
		}
	}
}

func TestCheckHidesSecrets(t *testing.T) {
	t.Parallel()
	_, stdout, stderr := run(t, []string{
		"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=http://user:hunter2@127.0.0.1:9/a?token=hunter3",
		"SSE_ROUTE_A_HEADERS=Authorization: hunter4",
	}, "check")
	for _, secret := range []string{"hunter2", "hunter3", "hunter4"} {
		if strings.Contains(stdout+stderr, secret) {
			t.Errorf("%s is shown: %s%s", secret, stdout, stderr)
		}
	}
}

// TestBadConfiguration: every problem is said, each with its variable.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	bad := []string{
		"SSE_LISTEN=nowhere", "SSE_MAX_CLIENTS=many", "SSE_DRAN=5s", "SSE_ROUTE_A_PATH=a", "SSE_ROUTE_A_FROM=ftp://x",
		"SSE_ROUTE_A_EVERY=soon", "SSE_ROUTE_A_SELECT=.[", "SSE_ROUTE_B_PATH=/b",
	}
	for _, args := range [][]string{{}, {"check"}} {
		code, _, stderr := run(t, bad, args...)
		if code != 2 {
			t.Errorf("%q: status %d, want 2", args, code)
		}
		for _, name := range []string{
			"SSE_LISTEN", "SSE_MAX_CLIENTS", "SSE_DRAN", "SSE_DRAIN", "SSE_ROUTE_A_PATH", "SSE_ROUTE_A_FROM",
			"SSE_ROUTE_A_EVERY", "SSE_ROUTE_A_SELECT", "SSE_ROUTE_B_FROM",
		} {
			if !strings.Contains(stderr, name) {
				t.Errorf("%q: %s is not named in %s", args, name, stderr)
			}
		}
	}
}

// What check is asked for twice over is no question.
func TestCheckWordsThatExclude(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{{"-live", "-diff", "env"}, {"-diff", "env", "-live"}} {
		if code, stdout, stderr := run(t, legacy.Env("127.0.0.1:9"), append([]string{"check"}, words...)...); code != 2 || stdout != "" || !strings.Contains(stderr, "not both") {
			t.Errorf("%q: %d %q %q", words, code, stdout, stderr)
		}
	}
}

func TestEnvFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	text := "# the demo's feed\nSSE_ROUTE_PRICES_PATH=/from-file\nSSE_ROUTE_PRICES_FROM=ws://127.0.0.1:9/ws\n\n" +
		"SSE_ROUTE_PRICES_HELLO='> {\"a\":1}\n< .ok'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-env-file", file, "check"}, {"check", "-env-file", file}} {
		if code, stdout, stderr := run(t, nil, args...); code != 0 || !strings.Contains(stdout, "/from-file") {
			t.Errorf("%q: status %d, %s%s", args, code, stdout, stderr)
		}
	}
	if _, stdout, _ := run(t, []string{"SSE_ROUTE_PRICES_PATH=/from-process"}, "-env-file", file, "check"); !strings.Contains(stdout, "/from-process") {
		t.Errorf("the process's variable does not win: %s", stdout)
	}
}

func TestTap(t *testing.T) {
	t.Parallel()
	addr := startLegacy(t, legacy.New())
	p := launch(t, legacy.Env(addr), binary, "tap", "prices")
	eventually(t, "three prices", func() bool { return strings.Count(p.stdout.String(), `"symbol"`) >= 3 })
	p.Process.Signal(syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("status %d after SIGTERM, want 0", code)
	}
	if strings.Contains(p.stdout.String(), "subscribed") || strings.Contains(p.stdout.String(), `"ping"`) {
		t.Errorf("what SELECT drops is shown: %s", &p.stdout)
	}
	if code, _, stderr := run(t, legacy.Env(addr), "tap", "nothing"); code != 2 || !strings.Contains(stderr, "prices") {
		t.Errorf("unknown route: status %d, %s; want 2 and the routes that there are", code, stderr)
	}
}

// TestTapEnds: a finished stream ends the command.
func TestTapEnds(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	p := launch(t, feedEnv(f), binary, "tap", "ticks")
	f.tick(t)
	f.say(t, `{"done":true}`)
	if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), `{"n":1}`) || !strings.Contains(p.stdout.String(), `{"done":true}`) {
		t.Errorf("status %d, %s", code, &p.stdout)
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := startSidecar(t, legacy.Env("127.0.0.1:9")...) // a legacy service that is away does not matter
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", "-ready"}} {
		if code, _, stderr := run(t, s.env, args...); code != 0 {
			t.Errorf("%q: status %d, %s; want 0", args, code, stderr)
		}
	}
	s.drain(t)
	if code, _, _ := run(t, s.env, "healthcheck"); code != 1 {
		t.Errorf("nobody there: status %d, want 1", code)
	}
}

// TestSecondSignal: with clients to release over an hour, the second signal does not wait.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, append(feedEnv(f), "SSE_DRAIN=1h")...)
	ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	s.Process.Signal(syscall.SIGTERM)
	eventually(t, "the drain", func() bool { return status("http://"+s.admin+"/readyz") == 503 })
	if code := status("http://" + s.admin + "/livez"); code != 200 {
		t.Errorf("/livez while draining: %d, want 200", code)
	}
	s.Process.Signal(syscall.SIGTERM)
	s.wait(t)
}
