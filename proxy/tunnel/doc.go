// Package tunnel carries the WebSockets of a page over Server-Sent Events and POST: one upstream WebSocket for each of
// them, and one SSE response for all.
//
// # Files
//
//   - protocol.go: the wire protocol between the sidecar and the page's script (proxy/web/websocket.js). wire.go: its bytes.
//   - page.go: [Pages], the pages and their life. tunnel.go: one WebSocket. serve.go: GETs and POSTs. stream.go: POSTs whose
//     body goes on. bye.go: the closing handshake. cookies.go: whom a page belongs to, and the cookies that its upstreams set.
//
// # Rules
//
//   - Message for message, exact to the byte, in order, each once: a POST that is repeated writes nothing twice.
//   - What a POST whose body goes on brings may come by any other, too, before or after: only numbers say what is written.
//   - Nothing is queued upward but the frame being written. Downward what is not acknowledged is kept, up to a bound, at half of
//     which the upstream is not read any more.
//   - What cannot be bridged ends the tunnel with 1006, as a lost connection ends a WebSocket.
//   - A page is found only with the id, the credentials and the origin that it was made with.
package tunnel
