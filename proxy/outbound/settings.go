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
