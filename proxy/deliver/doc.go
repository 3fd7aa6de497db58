// Package deliver is the clients: it moves ring bytes to sockets, notices disconnected clients, and lets all of them go when
// the sidecar stops. README.md has how that works, and how to change it.
//
// # Files
//
//   - deliver.go: [Clients], [Client], [Pacing]; what a client's answer is made by. native.go: which clients need special care.
//   - cursor.go: what a client is told next, decided in one place. words.go: the text of it. batch*.go: what a ring has after a cursor.
//   - client.go, output.go, wakegroup.go, deadlines.go: the writer that is a goroutine. copy.go: the one for tap.
//   - engine.go, shard.go, slots.go, walk.go, locals.go, vectors.go, poller.go: the shards, which write to HTTP/1 without goroutines. sealed.go: TLS below them.
//   - carrier.go, subscriber.go: the clients of an HTTP/2 connection, over package h2. lobby.go: where such connections wait without net/http.
//   - listeners.go, acceptor.go, plain.go, first.go, secured.go, arrivals.go, tcp*.go, unix.go: how connections come in. engine_other.go: elsewhere than on Linux.
//   - gzip.go, and form in batch.go: what clients get that take gzip.
//   - tables.go: seats beside others. runners.go: goroutines with an owner.
//
// # Rules of an answer's end
//
//   - Finished is a clean end of the body. Fetch-based clients take it for the end and never return.
//   - Come back is everything else, and must look like a network failure: HTTP/1.1 without the final chunk, HTTP/2 with a
//     stream reset, HTTP/1.0, where the end of the connection is the end of the body, with a TCP reset.
//   - Before that, what waits is flushed and given a moment: Chromium under load drops an event that arrives in the same
//     instant as the end.
package deliver
