// Package stream shares: it keeps one stream for each upstream request, with one source and one ring, for as long as
// a client reads it and a while longer.
//
// # Files
//
//   - streams.go: the streams of a route by their identities: joining, lingering, ageing, remembered refusals, bounds.
//     seat.go: the place of one client. replaced.go: the streams of a route that has changed.
//   - stream.go: one stream's life: connect, run, lose, retry. lean.go: what it has once it needs it. uplink.go: the way up. health.go: how the upstream is.
//   - restored.go: a stream whose history is kept elsewhere too: terms, and what a source goes on with. outbox.go: the way of its events there.
//     kept.go: its ring, as one process fills it; following.go: as others do.
//   - ring.go: the newest events, encoded; their clients' cursors; waking. log.go: where they are kept. id.go: their ids.
//     reading.go: how a stream that merges others reads them.
//     snapshot.go: what stands in for a ring's past. chunk.go: an event as a chunk of an HTTP/1.1 body.
//
// # Rules
//
//   - Equal identities share a stream, nothing else does.
//   - An event is encoded once, when it is appended, and its bytes are never written again.
//   - A gap is an event of the ring where all clients have it, and is told to one client where only that one does. Wherever it is in
//     doubt whether something was lost, it is a gap.
//   - An id that was not given by this ring is never taken for a place in it.
//   - Each stream has one goroutine, and where its history is in Redis one more while a batch is on its way there. [Streams.Close] waits for
//     both.
package stream
