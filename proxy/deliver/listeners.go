//go:build linux && !portable

package deliver

import (
	"crypto/tls"
	"net"
	"sync"

	"sidestream/proxy/deliver/h2"
)

// Listeners returns l for two servers of net/http with the same handler. Neither is asked for the event streams that
// admits has an answer to, where the connection lets it. The first is for what comes by HTTP/1, and whatever else comes
// over. The second is for HTTP/2 alone, which it takes for unencrypted, TLS or not; it must have no idle timeout. It is nil
// where there is no such thing: then the first is for HTTP/2 as well. Closing the first closes the second. With a config they
// are for TLS. l is taken over if it is [Listen]'s.
func (c *Clients) Listeners(l net.Listener, admits Admission, config *tls.Config) (first, second net.Listener) {
	if c.Goroutines {
		return byNetHTTP(l, config)
	}
	var two *arrivals
	if c.multiplexes() {
		two = newArrivals(l.Addr())
		second = two
	}
	if config != nil {
		return c.secured(l, config, two), second
	}
	if a := c.acceptor(l, admits, two); a != nil {
		return a, second
	}
	return l, nil
}

// checkH2 is [h2.Check], done once.
var checkH2 = sync.OnceValue(h2.Check)

// checkParking is [h2.CheckParking], the same.
var checkParking = sync.OnceValue(h2.CheckParking)

// multiplexes reports whether clients of HTTP/2 can do without goroutines. Where net/http is not as that needs it, it logs so.
func (c *Clients) multiplexes() bool {
	err := checkH2()
	if err != nil && c.Log != nil {
		c.Log.Warn("each client of HTTP/2 is served by a goroutine, which costs memory: build with a release of Go that the sidecar knows", "err", err)
	}
	if err == nil && checkParking() != nil && c.Log != nil {
		c.Log.Warn("each connection of HTTP/2 is read by a goroutine, which costs memory: build with a release of Go that the sidecar knows", "err", checkParking())
	}
	return err == nil
}
