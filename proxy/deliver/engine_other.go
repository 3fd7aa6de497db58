//go:build !linux || portable

package deliver

import (
	"net/http"
	"time"
)

// engine is nothing here: every client has a goroutine of its own. The build tag portable tests this on Linux too.
type engine struct{}

func (engine) drain(time.Duration) {}

func (engine) close() {}

func (c *Clients) handOver(http.ResponseWriter, *http.Request, Client) bool { return false }
