//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sidestream/e2e/ports"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that should happen at once. It is no measure of speed: only a test that
// fails waits so long.
const patience = 60 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

// within waits until ok for something that takes much of the machine.
func within(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	pause := 10 * time.Millisecond
	for !ok() {
		select {
		case <-time.After(pause):
			pause = min(pause+pause/20, 50*time.Millisecond) // to look costs something, in a browser not little: what takes long is looked at less often
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// output collects what a process writes; it may be written and read at once.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is a program that the test started; it is gone when the test is.
type process struct {
	*exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed when the process has ended and its output is complete
}

// launch starts a program with only PATH, HOME and env in its environment.
func launch(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	return launchTo(t, nil, env, name, args...)
}

// launchTo writes the program's stdout to copy too, if there is one, and closes it at the program's end.
func launchTo(t *testing.T, copy io.WriteCloser, env []string, name string, args ...string) *process {
	t.Helper()
	return launchInto(t, nil, copy, env, name, args...)
}

// launchInto has the program read in as its stdin, nil for none.
func launchInto(t *testing.T, in io.Reader, copy io.WriteCloser, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.Stdin, p.Stdout, p.Stderr = in, &p.stdout, &p.stderr
	if copy != nil {
		p.Stdout = io.MultiWriter(&p.stdout, copy)
	}
	// A group of its own, as browsers have children; and no survivor if this process is killed.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.WaitDelay = 5 * time.Second
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process; the cleanup waits for it
		defer close(p.ended)
		p.Wait()
		if copy != nil {
			copy.Close()
		}
	}()
	t.Cleanup(func() {
		syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("%s %s\nstdout: %s\nstderr: %s", name, strings.Join(args, " "), &p.stdout, &p.stderr)
		}
	})
	return p
}

// wait returns the exit status, -1 after a signal.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.Path)
		return 0
	}
}

// run runs the binary to its end.
func run(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := launch(t, env, binary, args...)
	status = p.wait(t)
	return status, p.stdout.String(), p.stderr.String()
}

// freeAddr returns an address on which nothing listens, and none twice. A server that is restarted needs one known
// beforehand.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := ports.Address()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// sidecar is a running sidestream.
type sidecar struct {
	*process
	addr, admin string
	env         []string
	within      string // the network namespace that it runs in; "" for that of the tests
	program     string // what runs instead of binary; "" nothing
}

// startSidecar starts sidestream with env on ports of its own and waits until it is ready. Race reports are failures.
func startSidecar(t *testing.T, env ...string) *sidecar {
	t.Helper()
	s := &sidecar{addr: freeAddr(t), admin: freeAddr(t)}
	s.begin(t, env...)
	return s
}

// begin starts it with env.
func (s *sidecar) begin(t *testing.T, env ...string) {
	t.Helper()
	s.env = append([]string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_LOG_LEVEL=debug", "GORACE=exitcode=66"}, env...)
	s.start(t)
}

func (s *sidecar) start(t *testing.T, args ...string) {
	t.Helper()
	name := binary
	if s.program != "" {
		name = s.program
	}
	if s.within != "" {
		name, args = "ip", append([]string{"netns", "exec", s.within, name}, args...)
	}
	s.process = launch(t, s.env, name, args...)
	p := s.process
	t.Cleanup(func() {
		if strings.Contains(p.stderr.String(), "DATA RACE") {
			t.Error("the sidecar raced")
		}
	})
	eventually(t, "the sidecar to be ready", func() bool {
		select {
		case <-s.ended:
			t.Fatalf("the sidecar ended: %s", &s.stderr)
		default:
		}
		return status("http://"+s.admin+"/readyz") == http.StatusOK
	})
}

// drain sends SIGTERM and waits for the end, which must be status 0.
func (s *sidecar) drain(t *testing.T) {
	t.Helper()
	s.Process.Signal(syscall.SIGTERM)
	if code := s.wait(t); code != 0 {
		t.Errorf("drained with exit status %d, want 0", code)
	}
}

var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

// status returns the answer's status, 0 when there is none.
func status(url string) int {
	resp, err := plain.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
