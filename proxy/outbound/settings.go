package outbound

import "time"

// Settings are how the connections of one route, or of pass-through, are made. The zero value: TCP, and TLS by the authorities that the system
// trusts.
type Settings struct {
	Trust   *Trust  // nil: the system's authorities, and no certificate is shown
	Socket  string  // path of the Unix socket that http://localhost is, @name an abstract one; "" none
	Proxies Proxies // of the environment
}

// dialTime is how long a connection may take, and then TLS.
const dialTime = 10 * time.Second

// silentTime is after how long without a frame a server of HTTP/2 is sent a PING, and how long that may go unanswered. Requests that are given up do not end
// a connection as they do in HTTP/1.1: over one that leads nowhere all that follow would go as well, until the kernel gives up, which takes a quarter of an hour.
const silentTime = 15 * time.Second

// maxHead is how many bytes the head of an answer may have: room for as many cookies as an upstream may set. net/http's own bound, ten times that, costs three
// times as much while it is read, and where thousands of streams ask the same service it would be theirs all at once.
const maxHead = 1 << 20
