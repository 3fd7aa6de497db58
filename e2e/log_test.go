//go:build e2e

package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startLogging starts sidestream with a pipe for its log, of which it returns the end to read.
func startLogging(t *testing.T, env ...string) (s *sidecar, log *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil { // so that little fills it
		t.Fatal(err)
	}
	s = &sidecar{addr: freeAddr(t), admin: freeAddr(t), process: &process{ended: make(chan struct{})}}
	s.Cmd = exec.Command(binary)
	s.Env = append([]string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_LOG_LEVEL=debug"}, env...)
	s.Stderr = write // a file: the process writes to the pipe itself
	s.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() { defer close(s.ended); s.Wait() }() // ends with the process
	t.Cleanup(func() { s.Process.Kill(); <-s.ended; read.Close() })
	eventually(t, "the sidecar to be ready", func() bool { return status("http://"+s.admin+"/readyz") == http.StatusOK })
	return s, read
}

// ends expects the process to end well.
func (s *sidecar) ends(t *testing.T) {
	t.Helper()
	s.Process.Signal(syscall.SIGTERM)
	if code := s.wait(t); code != 0 {
		t.Errorf("exit status %d, %v; want 0", code, s.ProcessState)
	}
}

// TestLogReaderGoes: journald is restarted, say. The sidecar goes on, and ends as it would have.
func TestLogReaderGoes(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, log := startLogging(t, feedEnv(f)...)
	got := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	log.Close()
	for range 3 {
		ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ").conn.Close() // a line each
		f.cut()                                                      // and more
		got.until(t, "stream.gap")
		got.got.Reset()
		said := f.tick(t)
		got.until(t, "data: "+said)
	}
	eventually(t, "the lost lines to be counted", func() bool {
		return regexp.MustCompile(`(?m)^sidestream_log_lines_lost_total [1-9]`).MatchString(body(t, "http://"+s.admin+"/metrics"))
	})
	s.ends(t)
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := plain.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// TestLogPipeIsFull: nobody reads the log. Streams go on, lines are lost and counted, and it is said once somebody reads.
func TestLogPipeIsFull(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, log := startLogging(t, feedEnv(f)...)
	got := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	lost := regexp.MustCompile(`(?m)^sidestream_log_lines_lost_total [1-9]`)
	eventually(t, "the pipe and the queue to be full", func() bool {
		for range 200 {
			ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ").conn.Close()
		}
		return lost.MatchString(body(t, "http://"+s.admin+"/metrics"))
	})
	got.got.Reset()
	said := f.tick(t)
	got.until(t, "data: "+said)
	var all output
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(&all, log) }() // ends with the process
	eventually(t, "the log to say what is missing", func() bool {
		ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ").conn.Close()
		return strings.Contains(all.String(), "log lines were lost")
	})
	s.ends(t)
	if <-read; !strings.Contains(all.String(), "sidestream stopped") {
		t.Error("the last line is missing")
	}
}

// TestStuckLogEndsToo: a log that nobody reads does not keep the process from ending.
func TestStuckLogEndsToo(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, _ := startLogging(t, feedEnv(f)...)
	for range 400 {
		ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ").conn.Close()
	}
	s.ends(t)
}

// TestHangUp: SIGHUP reads the configuration again, and ends nothing.
func TestHangUp(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	got := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	s.Process.Signal(syscall.SIGHUP)
	eventually(t, "the log to tell", func() bool { return strings.Contains(s.stderr.String(), `"trigger":"SIGHUP"`) })
	said := f.tick(t)
	got.until(t, "data: "+said)
	s.drain(t)
}

// TestHealthcheckReadsTheSameFile as the sidecar does, wherever it is named.
func TestHealthcheckReadsTheSameFile(t *testing.T) {
	t.Parallel()
	addr, admin := freeAddr(t), freeAddr(t)
	file := filepath.Join(t.TempDir(), "sidestream.env")
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("SSE_UPSTREAM=http://127.0.0.1:9", "SSE_LISTEN="+addr, "SSE_ADMIN_LISTEN="+admin, "SSE_DRAIN=0")
	healthy := func(want int) {
		t.Helper()
		for name, args := range map[string][]string{"before": {"-env-file", file, "healthcheck"}, "after": {"healthcheck", "-env-file=" + file}, "variable": {"healthcheck"}} {
			var env []string
			if name == "variable" {
				env = []string{"SSE_ENV_FILE=" + file}
			}
			if code, _, stderr := run(t, env, args...); code != want {
				t.Errorf("%s: status %d, want %d; %s", name, code, want, stderr)
			}
		}
	}
	healthy(1)
	p := launch(t, []string{"SSE_ENV_FILE=" + file}, binary)
	eventually(t, "the sidecar to be ready", func() bool { return status("http://"+admin+"/readyz") == http.StatusOK })
	healthy(0)
	p.Process.Signal(syscall.SIGTERM)
	p.wait(t)

	// Without an admin port, it is the public one that must accept.
	write("SSE_UPSTREAM=http://127.0.0.1:9", "SSE_LISTEN="+addr, "SSE_ADMIN_LISTEN=off", "SSE_DRAIN=0")
	healthy(1)
	launch(t, nil, binary, "-env-file", file)
	eventually(t, "the sidecar to listen", func() bool { return status("http://"+addr+"/") != 0 })
	healthy(0)
}

func TestWordsOfHelp(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"help", "-h", "-help", "--help"} {
		if code, stdout, _ := run(t, nil, word); code != 0 || !strings.Contains(stdout, "usage: sidestream") {
			t.Errorf("%s: status %d, %q", word, code, stdout)
		}
	}
	for _, word := range []string{"version", "-version", "--version"} {
		if code, stdout, _ := run(t, nil, word); code != 0 || !strings.HasPrefix(stdout, "sidestream ") {
			t.Errorf("%s: status %d, %q", word, code, stdout)
		}
	}
}

// TestNoDescriptorLeft: the admin port answers when nobody else is, so that a probe does not kill a process that is merely full;
// and everything goes on once there is room.
func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := &sidecar{addr: freeAddr(t), admin: freeAddr(t)}
	env := append([]string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_LOG_LEVEL=debug"}, feedEnv(f)...)
	s.process = launch(t, env, "sh", "-c", "ulimit -n 100; exec "+binary)
	eventually(t, "the sidecar to be ready", func() bool { return status("http://"+s.admin+"/readyz") == http.StatusOK })
	got := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	var all []net.Conn
	for range 120 { // more than it can have; the kernel takes the rest
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /ticks HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		all = append(all, conn)
	}
	eventually(t, "the warning", func() bool {
		status("http://" + s.admin + "/livez")
		return strings.Contains(s.stderr.String(), "no file descriptors are left")
	})
	for range 20 {
		if code := status("http://" + s.admin + "/livez"); code != 200 {
			t.Errorf("/livez without a descriptor: %d", code)
		}
	}
	said := f.tick(t)
	got.until(t, "data: "+said)
	if n := strings.Count(s.stderr.String(), "no file descriptors are left"); n != 1 {
		t.Errorf("the warning came %d times", n)
	}
	for _, conn := range all {
		conn.Close()
	}
	eventually(t, "room for others", func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(conn, "GET /ticks HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		n, _ := conn.Read(make([]byte, 100))
		return n > 0
	})
	s.drain(t)
}
