//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sidestream/e2e/ports"
)

// names are the servers, in the order of the table's columns.
var names = []string{"ours", "floor", "coalesced", "plain", "nchan"}

// server is one that is measured, with what feeds it and its clients.
type server struct {
	name    string
	process *exec.Cmd
	addr    string
	request string // of one client; what follows the path may be added before the last line
	feed    feed
	load    *load
	closing []io.Closer
}

func (s *server) pid() int { return s.process.Process.Pid }

func (s *server) stop() {
	if s.load != nil {
		s.load.stop()
	}
	for _, c := range s.closing {
		c.Close()
	}
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
	}
}

// start starts a server and its load client, which has no connections yet.
func (b *bench) startServer(name, loadRole string) (s *server, err error) {
	s = &server{name: name, request: "GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Language: en\r\nCache-Control: no-cache\r\n\r\n"}
	defer func() {
		if err != nil {
			s.stop()
			err = fmt.Errorf("start %s: %w", name, err)
		}
	}()
	switch strings.TrimSuffix(name, earlier) {
	case "ours", "file", "redis", "follower", "clear", "tls", "raw", "select", "selectjq", "members", "membersjq":
		err = b.startOurs(s)
	case "nginx":
		err = b.startTerminator(s)
	case "nchan":
		err = b.startNchan(s)
	default:
		err = b.startSelf(s)
	}
	if err != nil {
		return s, err
	}
	s.load, err = b.startLoad(loadRole)
	return s, err
}

// startSelf starts this program as a server. It tells its address, and is fed by its standard input.
func (b *bench) startSelf(s *server, args ...string) error {
	process, in, out, err := b.self(s.name, args...)
	if err != nil {
		return err
	}
	s.process = process
	s.feed = feed{in.(writer), framePipe}
	s.closing = append(s.closing, in)
	s.addr, err = out.ReadString('\n')
	s.addr = strings.TrimSpace(s.addr)
	return err
}

// self starts this program in another role.
func (b *bench) self(role string, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	c := exec.Command(exe, append([]string{"-role", role}, args...)...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	return c, in, bufio.NewReader(out), c.Start()
}

// startOurs starts the sidecar, with the bench as its legacy service.
func (b *bench) startOurs(s *server) error {
	legacy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer legacy.Close()
	if s.addr, err = ports.Address(); err != nil {
		return err
	}
	kept, err := b.kept(s.name)
	if err != nil {
		return err
	}
	env := append(kept, "SSE_ADMIN_LISTEN=off", "SSE_LOG_LEVEL=warn", "SSE_MAX_CLIENTS=0",
		"SSE_IDLE=1h", "SSE_REPLAY_EVENTS=16384", "SSE_REPLAY_BYTES=16MiB", "SSE_ROUTE_FEED_PATH=/events",
		"SSE_ROUTE_FEED_FROM=ws://"+legacy.Addr().String()+"/feed", "SSE_ROUTE_FEED_EAGER=true")
	env = append(env, programOf(s.name)...)
	if s.name == "follower" { // the holder is another one, which is there before
		if _, err := b.sidecar(env); err != nil {
			return err
		}
	} else if err := b.launch(s, env); err != nil {
		return err
	}
	legacy.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := acceptWebSocket(legacy)
	if err != nil {
		return err
	}
	s.closing = append(s.closing, conn)
	s.feed = feed{conn, frameWebSocket}
	if s.name == "follower" {
		if err := b.launch(s, env); err != nil {
			return err
		}
	}
	return await(s.addr)
}

// launch starts the sidecar at the server's address.
func (b *bench) launch(s *server, env []string) error {
	binary := b.binary
	if strings.HasSuffix(s.name, earlier) {
		binary = b.beside
	}
	s.process = exec.Command(binary)
	s.process.Stderr = os.Stderr
	s.process.Env = append(append(os.Environ(), "SSE_LISTEN="+s.addr), env...)
	return s.process.Start()
}

const nchanConf = `daemon off;
master_process off;
worker_processes 1;
error_log stderr crit;
pid %[1]s/nginx.pid;
load_module %[2]s;
worker_rlimit_nofile 65536;
events { worker_connections 32768; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	nchan_shared_memory_size 256m;
	server {
		listen %[3]s backlog=4096;
		location = /publish { nchan_publisher http; nchan_channel_id feed; nchan_message_buffer_length 1024; }
		location = /events { nchan_subscriber eventsource; nchan_channel_id feed; nchan_subscriber_first_message newest; }
	}
}
`

// nchan finds nginx and its module where Debian puts them.
func nchan() (nginx, module string, ok bool) {
	nginx = nginxPath()
	module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	for _, file := range []string{nginx, module} {
		if _, err := os.Stat(file); err != nil {
			return "", "", false
		}
	}
	return nginx, module, true
}

// nginxPath is where nginx is, or would be.
func nginxPath() string {
	if nginx, err := exec.LookPath("nginx"); err == nil {
		return nginx
	}
	return "/usr/sbin/nginx"
}

func (b *bench) startNchan(s *server) (err error) {
	nginx, module, _ := nchan()
	if s.addr, err = ports.Address(); err != nil {
		return err
	}
	conf := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nchanConf, b.dir, module, s.addr), 0o644); err != nil {
		return err
	}
	s.process = exec.Command(nginx, "-p", b.dir, "-c", conf, "-e", "stderr")
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return err
	}
	if err := await(s.addr); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return err
	}
	s.closing = append(s.closing, conn)
	s.feed = feed{conn.(*net.TCPConn), framePost}
	go io.Copy(io.Discard, conn) // the answers; ends with conn
	return nil
}

// await waits until something listens.
func await(addr string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// load is a load client.
type load struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func (b *bench) startLoad(role string) (*load, error) {
	process, in, out, err := b.self(role)
	return &load{process, in, out}, err
}

func (l *load) stop() {
	if l.process == nil || l.process.Process == nil {
		return
	}
	l.in.Close() // it ends with it
	l.process.Process.Kill()
	l.process.Wait()
}

// tell gives a command and returns the answer.
func (l *load) tell(o order) (c count, err error) {
	if err := json.NewEncoder(l.in).Encode(o); err != nil {
		return c, fmt.Errorf("command the load client: %w", err)
	}
	line, err := l.out.ReadBytes('\n')
	if err != nil {
		return c, fmt.Errorf("%s: the load client is gone: %w", o.Op, err)
	}
	return c, json.Unmarshal(line, &c)
}

// connect opens n more connections.
func (s *server) connect(n int, request string) error {
	before, err := s.load.tell(order{Op: "count"})
	if err != nil {
		return err
	}
	c, err := s.load.tell(order{Op: "connect", N: n, Addr: s.addr, Request: request})
	if err == nil && (c.Failed > 0 || c.Lost > before.Lost || c.Open != before.Open+n) {
		err = errors.New("some clients could not connect; see ulimit -n")
	}
	if err != nil {
		return fmt.Errorf("%s: connect %d clients: %w (%+v)", s.name, n, err, c)
	}
	return nil
}

func (s *server) disconnect(n int) error {
	_, err := s.load.tell(order{Op: "close", N: n})
	return err
}
