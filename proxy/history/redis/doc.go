// Package redis keeps the histories of streams in Redis (7.0 and later) or Valkey, for several replicas at once. Of each stream one replica,
// its holder, runs the source and appends; the others follow. The rules:
//
//   - An append is a compare-and-append: it names the entry that it comes after. A holder that has been replaced, a store that has lost
//     acknowledged writes without an error (a failover, FLUSHALL, an eviction), and a second try after a lost answer all show as another entry
//     than that. Nothing else is trusted to tell.
//   - A lease says who may be the holder. It only keeps replicas from taking turns: what is correct does not hang on it, nor on any clock.
//   - A holder's epoch begins with a marker, which names the entry before it. From the markers and the numbers of the events, whoever
//     follows sees what it has not got.
//   - A command has a deadline, and one that failed may have been carried out.
//   - While the store is away, or does not take writes, a stream goes on for the clients of its holder. Followers wait.
//
// The keys of a stream, where {b} is its bucket and h its name, an HMAC of its identity:
//
//	PREFIX:{b}:h:s  the stream: an entry EPOCH-SEQ for each event (t: ms since 1970, i: the upstream's id, k: KEY, d: as text/event-stream;
//	                h: meta has a past for it), EPOCH-0 at an epoch's beginning (p: the entry before it), or one that is the end
//	                (x: -1 finished, else the status with which it was refused)
//	PREFIX:{b}:h:m  meta, a hash: pos, the last entry; state, what the source needs to go on after it; past, what all events come to
//	PREFIX:{b}:h:k  a hash of the newest event of each KEY
//	PREFIX:{b}:h:l  the lease: REPLICA|NUMBER
//	PREFIX:{b}:h:i:…  the digest of a message that was sent with an Idempotency-Key, and ! once it was
//	PREFIX:{b}:n    hints, a stream: s, the name of the one that has grown; w, who wrote; x, where its lease was given up
//
//	PREFIX:{0}:w    what replicas tell each other, a stream: w, who; m, what
//
// and of a replica PREFIX:{r:REPLICA}:p, the address at which others reach it.
//
// | file | holds |
// |---|---|
// | settings.go | addresses and how they are written |
// | store.go | the store, its connection, whether it is away |
// | keys.go | names and keys |
// | scripts.go | what runs in Redis |
// | log.go | one stream: opening, leading, appending |
// | entries.go | entries of a stream, both ways |
// | tail.go | following |
// | claims.go | messages that were sent |
// | words.go | what replicas tell each other |
// | beat.go | leases, and what else is due from time to time |
package redis
