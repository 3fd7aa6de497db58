//go:build e2e

package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// goServers are programs that are Go modules, servers/<name>, each built once into a folder that TestMain removes.
var goServers = map[string]func() (path string, err error){
	"centrifugo": built("centrifugo", "github.com/centrifugal/centrifugo/v6"),
	"h2spec":     built("h2spec", "github.com/summerwind/h2spec/cmd/h2spec"),
	"nats":       built("nats", "github.com/nats-io/nats-server/v2"),
}

func built(name, program string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(filepath.Dir(binary), name)
		build := exec.Command("go", "build", "-o", path, program)
		build.Dir = filepath.Join("servers", name)
		build.Stderr = os.Stderr
		return path, build.Run()
	})
}

// goServer is the path of a program of goServers.
func goServer(t *testing.T, name string) string {
	t.Helper()
	path, err := goServers[name]()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

// severer is a proxy between the sidecar and a server whose connections are severed at any moment, in the middle of whatever is on its way.
type severer struct {
	target string

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	shut  bool // what comes is ended at once
}

// listen begins, until the test ends, and returns the address.
func (s *severer) listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.conns = map[net.Conn]bool{}
	var open sync.WaitGroup
	open.Go(func() { // ends with l
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { s.relay(client) }) // ends when either side does
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.sever(false)
		open.Wait()
	})
	return l.Addr().String()
}

func (s *severer) relay(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	defer server.Close()
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return
	}
	s.conns[client], s.conns[server] = true, true
	s.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(server, client); server.Close(); client.Close() }) // ends with client
	io.Copy(client, server)
	client.Close()
	server.Close()
	both.Wait()
	s.mu.Lock()
	delete(s.conns, client)
	delete(s.conns, server)
	s.mu.Unlock()
}

// sever ends all connections; hard: with a reset, so that what was on its way to the sidecar is gone too.
func (s *severer) sever(hard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		if tcp, ok := conn.(*net.TCPConn); ok && hard {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// close severs all connections, and those to come, until it is opened again.
func (s *severer) close(shut bool) {
	s.mu.Lock()
	s.shut = shut
	s.mu.Unlock()
	if shut {
		s.sever(false)
	}
}
