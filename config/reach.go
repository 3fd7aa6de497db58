package config

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// reachTime is how long the service may take to accept a connection.
const reachTime = 3 * time.Second

// Unreachable says why SSE_UPSTREAM takes no connection, "" when it does, or when that cannot be told. Nothing is asked of it.
func (c *Config) Unreachable(ctx context.Context) string {
	if c.Upstream == nil || c.Network.Proxies.For(c.Upstream) != nil {
		return ""
	}
	network, address := "tcp", c.Upstream.Host
	if c.Upstream.Port() == "" {
		address = net.JoinHostPort(c.Upstream.Hostname(), map[string]string{"http": "80", "https": "443"}[c.Upstream.Scheme])
	}
	if c.Network.Socket != "" {
		network, address = "unix", c.Network.Socket
	}
	conn, err := (&net.Dialer{Timeout: reachTime}).DialContext(ctx, network, address)
	var unknown *net.DNSError
	switch {
	case err == nil:
		conn.Close()
		return ""
	case ctx.Err() != nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket"
	case errors.As(err, &unknown):
		return "its name is not known"
	}
	return "it takes no connection"
}
