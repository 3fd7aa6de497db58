package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

// ProxyError is what went wrong between us and a forward proxy.
type ProxyError struct {
	Proxy  string // without user name and password
	Status int    // that it answered with; 0: it did not
	Err    error  // why it did not
}

// Error holds no user name and no password.
func (e *ProxyError) Error() string {
	switch {
	case e.Err != nil:
		return "the forward proxy " + e.Proxy + " cannot be used: " + e.Err.Error()
	case e.Status == http.StatusProxyAuthRequired:
		return "the forward proxy " + e.Proxy + " wants another user name and password (407); give them in HTTP_PROXY or HTTPS_PROXY, or name the host in NO_PROXY"
	}
	return fmt.Sprintf("the forward proxy %s refused the connection (%d); name the host in NO_PROXY if it is to be dialled directly", e.Proxy, e.Status)
}

// Unwrap returns why the proxy did not answer.
func (e *ProxyError) Unwrap() error { return e.Err }

// dialer opens a connection, as [net.Dialer.DialContext] does.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// through opens a connection to address by a proxy.
func (dial dialer) through(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	failed := func(err error) error { return &ProxyError{Proxy: Shown(via), Err: err} }
	if via.Scheme != "http" && via.Scheme != "https" {
		return dial.socks(ctx, via, address)
	}
	plain, err := dial(ctx, "tcp", withPort(via))
	if err != nil {
		return nil, failed(err)
	}
	stop := context.AfterFunc(ctx, func() { plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := plain
	if via.Scheme == "https" {
		secure := tls.Client(plain, &tls.Config{ServerName: via.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			plain.Close()
			return nil, failed(err)
		}
		c = secure
	}
	if err := connect(c, via, address); err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, failed(ctx.Err())
		}
		return nil, err
	}
	if !stop() { // ctx was done, and the deadline is set
		c.Close()
		return nil, ctx.Err()
	}
	return c, nil
}

// connect asks the proxy at the other end of c for a tunnel (RFC 9110, section 9.3.6).
func connect(c net.Conn, via *url.URL, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {"sidestream"}}}
	if via.User != nil {
		password, _ := via.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return &ProxyError{Proxy: Shown(via), Err: err}
	}
	// One byte after the other: what follows the answer is the other end's. Its length is bounded.
	in := bufio.NewReaderSize(&singly{c: c, left: maxAnswer}, 16)
	resp, err := http.ReadResponse(in, req)
	switch {
	case err != nil:
		return &ProxyError{Proxy: Shown(via), Err: err}
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return &ProxyError{Proxy: Shown(via), Status: resp.StatusCode}
	}
	return nil
}

// maxAnswer is how long the head of a proxy's answer may be, in bytes.
const maxAnswer = 64 << 10

// singly reads a byte at a time, so that nothing is read ahead.
type singly struct {
	c    net.Conn
	left int
}

func (s *singly) Read(p []byte) (int, error) {
	if s.left--; s.left < 0 {
		return 0, errLongAnswer
	}
	return s.c.Read(p[:min(1, len(p))])
}

var errLongAnswer = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)

// socks opens a connection by a SOCKS proxy (RFC 1928), which resolves the name.
func (dial dialer) socks(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", withPort(via), auth, dial)
	if err == nil {
		var c net.Conn
		if c, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", address); err == nil {
			return c, nil
		}
	}
	return nil, &ProxyError{Proxy: Shown(via), Err: err}
}

// Dial is proxy.Dialer's.
func (dial dialer) Dial(network, address string) (net.Conn, error) {
	return dial(context.Background(), network, address)
}

// DialContext is proxy.ContextDialer's.
func (dial dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return dial(ctx, network, address)
}

// withPort is the address of a proxy.
func withPort(via *url.URL) string {
	port := via.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[via.Scheme]
	}
	if port == "" {
		port = "1080"
	}
	return net.JoinHostPort(via.Hostname(), port)
}
