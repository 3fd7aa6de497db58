// Package upstream is the sources: it makes a client's request into an upstream request, and an upstream request into
// messages, by a WebSocket subscription, by polling, from an answer that never ends, or from a Redis. It alone dials, by way of packages outbound and
// redisconn.
//
// # Files
//
//   - settings.go: a route's texts. compile*.go: a route compiled from them. table.go: all its templates: expansion, identity, what a route
//     needs of a client. template.go, escape.go: placeholders, and what each place allows. request.go: [Request].
//   - source.go: [Source] and [Conn], what a stream sees. subscription.go, websocket*.go, handshake.go, keeper.go: the WebSocket, whose
//     frames are package wsconn's.
//     poll.go, pollpage.go, items.go: the poll. follow.go: the HTTP stream. redis*.go: a Redis' channels and streams.
//   - judge.go, status.go, login.go: what answers mean. outgoing.go: the way up. cookies.go, coding.go, http.go, call.go: HTTP.
//   - reread.go: credentials in files. shown.go: what of addresses and errors may be shown.
//
// # Rules
//
//   - Nothing of a client's request goes upstream but by a line of the route's table, and that line is part of the identity. There
//     is no second list.
//   - A value of a client's never leaves its field.
//   - In doubt whether something was lost, it was: [Conn].Resumed and [Retry].Lossless are claims.
//   - A refusal is for what a retry cannot cure, and says what a person has to do.
//   - Credentials go to the host that they were meant for. What an upstream says is bounded, and never quoted in a log.
package upstream
