package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Dialer is how connections are made. The zero value: TCP, and TLS by the authorities that the system trusts.
type Dialer struct {
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)     // nil: the system's
	Secure func(ctx context.Context, c net.Conn, host string) (_ net.Conn, _ error) // does the handshake of TLS, and closes c when it fails; nil: Go's own
}

// ErrUnknownMaster means that the sentinels answer, and know no master by that name.
var ErrUnknownMaster = errors.New("the sentinels know no master by that name")

const maxShort = 1 << 10 // bytes of what is answered to these commands

// Open connects to the master, the server or any node of the cluster, and logs in. It fails with an *[Error] when the server refuses, with
// [ErrUnknownMaster], [ErrProtocol], or what went wrong on the way; at the latest when ctx is done.
func (a Address) Open(ctx context.Context, d Dialer) (*Conn, error) {
	addresses := a.shuffled()
	if a.Master != "" {
		master, err := a.FindMaster(ctx, d)
		if err != nil {
			return nil, err
		}
		addresses = []string{master}
	}
	var failed error
	for _, at := range addresses {
		c, err := a.OpenAt(ctx, d, at)
		if err == nil {
			return c, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// OpenAt is Open with the address of one of its servers.
func (a Address) OpenAt(ctx context.Context, d Dialer, at string) (*Conn, error) {
	c, err := a.dial(ctx, d, at)
	if err != nil {
		return nil, err
	}
	if err := c.during(ctx, func() error { return c.login(a) }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// during runs f, which is cut when ctx is done.
func (c *Conn) during(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// shuffled are the addresses in any order, so that not all ask the same node.
func (a Address) shuffled() []string {
	all := make([]string, len(a.Addresses))
	for i, j := range rand.Perm(len(all)) {
		all[i] = a.Addresses[j]
	}
	return all
}

func (a Address) dial(ctx context.Context, d Dialer, at string) (*Conn, error) {
	dial, secure := d.Dial, d.Secure
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if secure == nil {
		secure = handshake
	}
	c, err := dial(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	if a.TLS {
		host, _, _ := net.SplitHostPort(at)
		if c, err = secure(ctx, c, host); err != nil {
			return nil, err
		}
	}
	return newConn(c, at), nil
}

func handshake(ctx context.Context, c net.Conn, host string) (net.Conn, error) {
	conn := tls.Client(c, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	if err := conn.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return conn, nil
}

// login says who we are, and chooses the database.
func (c *Conn) login(a Address) error {
	if a.Password != "" || a.User != "" {
		words := []string{"AUTH", a.Password}
		if a.User != "" {
			words = []string{"AUTH", a.User, a.Password}
		}
		if _, err := c.Ask(maxShort, words...); err != nil {
			return err
		}
	}
	_, err := c.Ask(maxShort, "CLIENT", "SETNAME", "sidestream") // also the first answer of a server that wants a password
	if refused, ok := errors.AsType[*Error](err); err != nil && (!ok || refused.Code != "NOPERM" && refused.Code != "ERR") {
		return err
	}
	if a.DB != 0 {
		_, err := c.Ask(maxShort, "SELECT", strconv.Itoa(a.DB))
		return err
	}
	return nil
}

// FindMaster asks the sentinels for the address of the master.
func (a Address) FindMaster(ctx context.Context, d Dialer) (string, error) {
	var failed error
	for _, at := range a.shuffled() {
		master, err := a.askSentinel(ctx, d, at)
		if err == nil {
			return master, nil
		}
		if failed == nil || !errors.Is(err, ErrUnknownMaster) { // one that has just begun knows none
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", failed
}

func (a Address) askSentinel(ctx context.Context, d Dialer, at string) (master string, err error) {
	c, err := a.dial(ctx, d, at)
	if err != nil {
		return "", err
	}
	defer c.Close()
	err = c.during(ctx, func() error {
		v, err := c.Ask(maxShort, "SENTINEL", "get-master-addr-by-name", a.Master)
		if err == nil && v.Nil {
			return ErrUnknownMaster
		}
		if err == nil && len(v.List) != 2 {
			return ErrProtocol
		}
		if err == nil {
			master = net.JoinHostPort(v.List[0].Text, v.List[1].Text)
		}
		return err
	})
	return master, err
}
