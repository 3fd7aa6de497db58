package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrWords is what the error of [Healthcheck] wraps when it does not know its words.
var ErrWords = errors.New("healthcheck takes -ready or nothing")

// Healthcheck is the command: it asks the sidecar at the addresses how it is, or with -ready whether it wants requests. addresses is
// asked for nothing but where the sidecar listens, so that it works wherever the sidecar does.
func Healthcheck(ctx context.Context, words []string, addresses func() (public, operator string, err error)) error {
	path := "/livez"
	switch {
	case len(words) == 1 && (words[0] == "-ready" || words[0] == "--ready"):
		path = "/readyz"
	case len(words) > 0:
		return fmt.Errorf("%w, got %q", ErrWords, words[0])
	}
	public, operator, err := addresses()
	if err != nil {
		return err
	}
	return Check(ctx, public, operator, path)
}

// Check asks a running sidecar how it is, within 5 s: path is /livez or /readyz. Where it has no admin port, operator "", it
// asks whether the public address accepts a connection. The error says what was asked and what came of it.
func Check(ctx context.Context, public, operator, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if operator == "" {
		network, address := "tcp", Local(public)
		if path, ok := strings.CutPrefix(public, "unix:"); ok {
			network, address = "unix", path
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return fmt.Errorf("healthcheck: the admin port is off, and the public one does not accept connections: %w", err)
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Local(operator)+path, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	// No forward proxy of the environment stands between two processes of one sidecar.
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s answered %d", path, resp.StatusCode)
	}
	return nil
}

// URL is where a program on this machine finds what listens on addr; "" for "".
func URL(addr string) string {
	if addr == "" {
		return ""
	}
	return "http://" + Local(addr)
}

// Local makes an address that a program on this machine can ask out of one that is listened on.
func Local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
