// Package merge makes one stream of several: of those of other routes (FROM=routes:a,b), or of those that a page names. It is a source like any
// other, whose upstream are rings.
//
// # Files
//
//   - merge.go: [Plan], [Part], [Source]. read.go: what is read of the parts, and what becomes of it. keys.go: with what a client begins that has no
//     place. place.go: where a client begins that knows its places in the parts.
//
// # Rules
//
//   - A part is read once for each merged stream, whatever the number of clients, by the stream's own goroutine. A client is a cursor into the merged ring,
//     as in any other.
//   - An event of a part is one of the merged stream, unless its programs say otherwise. A gap of a part is a gap of the whole, which says whose it is.
//   - A merged stream begins with what its parts' rings have of the past, as if it had been there, so that whoever comes with an older place misses nothing.
//   - A part that is refused, or replaced, ends the merged stream: its clients come back, are admitted again, and get what there is then.
package merge
