// Package redistest starts real Redis servers for tests, and does to them what happens to servers.
package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sidestream/e2e/ports"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server of a test's own, on loopback. It ends with the test.
type Server struct {
	Addr string

	t    testing.TB
	dir  string
	args []string

	mu  sync.Mutex // guards cmd
	cmd *exec.Cmd
}

// Start starts a server that keeps nothing on the disk, and waits until it answers.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartAt(t, FreePort(t), args...)
}

// StartAt is Start with a port.
func StartAt(t testing.TB, port int, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is needed: install Debian's package redis-server")
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), t: t, dir: t.TempDir()}
	s.args = append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--loglevel", "warning"}, args...)
	s.Run()
	t.Cleanup(s.Kill)
	return s
}

// FreePort is one that nothing listens on, so far.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := ports.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Run starts the server again, empty.
func (s *Server) Run() {
	s.t.Helper()
	s.mu.Lock()
	s.cmd = exec.Command("redis-server", s.args...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err == nil {
		s.cmd.Stdout, s.cmd.Stderr = log, log
		err = s.cmd.Start()
		log.Close()
	}
	s.mu.Unlock()
	if err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		if answer, err := s.Try("PING"); err == nil && (answer == "PONG" || strings.HasPrefix(answer, "NOAUTH")) {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("redis-server does not answer: %s", text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Server) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.cmd.Process.Signal(sig)
	}
}

// Kill ends the server at once.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.cmd.Wait()
		s.cmd = nil
	}
}

// Freeze stops it without a connection closed; Thaw has it go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw is Freeze's end.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

// Do runs a command, and returns the answer as text: an array's elements one per line.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	answer, err := s.Try(args...)
	if err != nil {
		s.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return answer
}

// Try is Do for a server that may be away.
func (s *Server) Try(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(a), a)
	}
	return answer(bufio.NewReader(conn))
}

// answer reads one of RESP2's.
func answer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		_, err := io.ReadFull(r, text)
		return string(text[:n]), err
	case '*':
		var all []string
		for range n {
			one, err := answer(r)
			if err != nil {
				return "", err
			}
			all = append(all, one)
		}
		return strings.Join(all, "\n"), nil
	}
	return line[1:], nil
}
