//go:build !linux || portable

package deliver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"sidestream/proxy/stream"
)

// engine is nothing here: every client has a goroutine of its own. The build tag portable tests this on Linux too.
type engine struct{}

func (engine) drain(time.Duration) {}

func (engine) close() {}

func (engine) connections() (open, parked int) { return 0, 0 }

func (engine) census(context.Context, func(Shown) bool) {}

func (engine) count(context.Context, map[*stream.Ring]int) {}

func (c *Clients) handOver(http.ResponseWriter, *http.Request, Client) bool { return false }

// Listeners returns l, for TLS with a config: here every connection comes by net/http, with one server.
func (c *Clients) Listeners(l net.Listener, _ Admission, config *tls.Config) (first, second net.Listener) {
	return byNetHTTP(l, config)
}

// TLS is r's: net/http has seen it.
func TLS(r *http.Request) *tls.ConnectionState { return r.TLS }
