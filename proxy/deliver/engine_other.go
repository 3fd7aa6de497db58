//go:build !linux || portable

package deliver

import (
	"net"
	"net/http"
	"time"
)

// engine is nothing here: every client has a goroutine of its own. The build tag portable tests this on Linux too.
type engine struct{}

func (engine) drain(time.Duration) {}

func (engine) close() {}

func (c *Clients) handOver(http.ResponseWriter, *http.Request, Client) bool { return false }

// Listener returns l: here everyone comes by net/http.
func (c *Clients) Listener(l net.Listener, _ http.Handler) net.Listener { return l }

// Decline does nothing: see above.
func Decline(http.ResponseWriter, ...func()) {}
