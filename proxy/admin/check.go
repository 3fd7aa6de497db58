package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Check asks a running sidecar how it is, within 5 s: path is /livez or /readyz. Where it has no admin port, operator "", it
// asks whether the public address accepts a connection. The error says what was asked and what came of it.
func Check(ctx context.Context, public, operator, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if operator == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", Local(public))
		if err != nil {
			return fmt.Errorf("healthcheck: the admin port is off, and the public one does not accept: %w", err)
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Local(operator)+path, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s answered %d", path, resp.StatusCode)
	}
	return nil
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
