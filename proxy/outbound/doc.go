// Package outbound is how connections to upstreams are made: what a server is verified by and what it is shown (UPSTREAM_CA, UPSTREAM_CERT, UPSTREAM_KEY,
// UPSTREAM_NAME), Unix sockets, and the forward proxies of the environment. It knows nothing of what is said over them.
//
// # Files
//
//   - settings.go: [Settings], which a route or pass-through has. address.go: http+unix:// and ws+unix://.
//   - keys.go: PEM. trust.go: [Trust], which keeps up with the files. transport.go: [Transport]. upgrade.go: upgrades without net/http's pool.
//     tunnel.go: CONNECT and SOCKS.
//   - proxies.go: HTTP_PROXY, HTTPS_PROXY, NO_PROXY.
//
// # Rules
//
//   - A connection belongs to one Transport, and that to one route or to pass-through: no request goes over a connection that was made with
//     another one's certificate.
//   - Keys that have changed count for every connection from then on. None that was made with the previous ones is used for another request.
//   - A forward proxy is never shown a client certificate, nor verified by UPSTREAM_CA.
//   - A socket is what the configuration names. No answer of an upstream and no client can name one.
//   - User names and passwords of proxies are in no error.
package outbound
