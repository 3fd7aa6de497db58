// Package proxy is the HTTP face: one URL negotiated between SSE, WebSocket and plain HTTP. It decides what a request
// is, which clients are admitted, and passes through what is not its own.
//
// # Files
//
//   - proxy.go: [Proxy], the public handler. route.go: a route, its admission and its answers. origin.go: pages of other origins.
//     table.go: what of the settings may change while the sidecar runs. reload.go: how it does.
//     merged.go: who may have what of several routes in one stream. set.go: those that a page chooses.
//   - post.go: SEND. tunnel.go: what package tunnel needs of the face. peers.go, post_peers.go: what other replicas are asked,
//     and ask. tap.go: the command.
//   - passthrough.go, passthrough_target.go: everything that no route answers. wellformed.go: what a request must be before anything
//     is made of it.
//   - server.go, tls.go: the servers of net/http around it. settings.go: what a sidecar is served by.
//
// # Rules
//
//   - What is passed through is what was sent: method, target bytes, Host, all end-to-end headers. What is added is listed at
//     [Passthrough].
//   - An event stream is refused with a status only where a retry cannot help; being full, or a bad moment of the upstream, is a 200.
//   - A request is admitted by the same rules whether net/http read it or package deliver did ([Proxy.Beside]), and until it is, nothing
//     is taken or counted.
//   - http.ErrAbortHandler is panicked with in one place, end in proxy.go.
//
// README.md beside this file has the words, the ideas, a message's way, and the map of all packages.
package proxy
