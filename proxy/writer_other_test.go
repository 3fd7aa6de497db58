//go:build !linux || portable

package proxy

import "sidestream/proxy/deliver"

// usualWriter is what writes to a client of HTTP/1.1 here.
const usualWriter = deliver.ByGoroutine
