//go:build linux

// This file is what TLS costs over HTTP/1.1: the sidecar with it and without, and nginx that terminates it in front, in one run.

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sidestream/e2e/ports"
)

// terminators are the servers of this part: the sidecar in clear, the sidecar with TLS, nginx with TLS in front of one in clear.
var terminators = []string{"clear", "tls", "nginx"}

// terminates reports whether a server of that name speaks TLS.
func terminates(name string) bool { return name == "tls" || name == "nginx" }

// costOfTLS measures.
func (b *bench) costOfTLS() error {
	if err := b.certificate(); err != nil {
		return err
	}
	for _, name := range terminators {
		if _, err := exec.LookPath(nginxPath()); err != nil && name == "nginx" {
			b.note("nginx is not measured: it is not installed")
			continue
		}
		role := "load"
		if terminates(name) {
			role = "tlsload"
		}
		s, err := b.startServer(name, role)
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
	}
	return b.steps(
		measuring{"clients that idle", b.idle},
		measuring{"fan-out", b.fanOutMany},
	)
}

// certificate makes the key pair of all servers.
func (b *bench) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(b.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

func (b *bench) certFile() string { return filepath.Join(b.dir, "cert.pem") }

func (b *bench) keyFile() string { return filepath.Join(b.dir, "key.pem") }

const terminatorConf = `daemon off;
master_process off;
worker_processes 1;
error_log stderr crit;
pid %[1]s/terminator.pid;
worker_rlimit_nofile 65536;
events { worker_connections 32768; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl backlog=4096;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		ssl_protocols TLSv1.2 TLSv1.3;
		location / {
			proxy_pass http://%[3]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering off;
			proxy_read_timeout 1h;
		}
	}
}
`

// startTerminator starts nginx, which terminates TLS in front of a sidecar. What is measured is nginx alone.
func (b *bench) startTerminator(s *server) error {
	behind := &server{name: "behind"}
	if err := b.startOurs(behind); err != nil {
		return err
	}
	b.stores = append(b.stores, behind)
	s.feed = behind.feed
	var err error
	if s.addr, err = ports.Address(); err != nil {
		return err
	}
	conf := filepath.Join(b.dir, "terminator.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, terminatorConf, b.dir, s.addr, behind.addr), 0o644); err != nil {
		return err
	}
	s.process = exec.Command(nginxPath(), "-p", b.dir, "-c", conf, "-e", "stderr")
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return err
	}
	return await(s.addr)
}

// tlsRows are the table's.
var tlsRows = []row{rows[0], rows[1], rows[3], {manyCPU, func(s size) string { return fmt.Sprintf("CPU per event, %d clients, %d msg/s", s.many, s.manyRate) }, micro}}

// tlsTable prints the figures, and beside those of TLS how many times the others they are.
func (b *bench) tlsTable(w io.Writer) {
	comparison{"HTTP/1.1\tin clear\twith TLS\tnginx with TLS in front", terminators, "tls", func(other, ours float64) float64 { return ours / other }, tlsRows,
		"the sidecar with TLS divided by this one. CPU is user and system time of the process; nginx's without that of the sidecar behind it."}.print(b, w)
}
