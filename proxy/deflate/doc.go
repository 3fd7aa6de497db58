// Package deflate has one compression of a stream serve all of its clients, in the format of gzip (RFC 1952) over deflate (RFC 1951). The rules:
//
//   - Each client's answer is one member: [Header] once, then blocks of deflate, each of which ends at a byte (its flush, section 3.3.11 of zlib's format, an
//     empty stored block), and [AppendEnd] where the answer is complete. Where it is cut there is no end, as there is none of the body.
//   - Blocks of a [Run] refer back to what the run has had before. A client may be given them from the run's beginning on, or from where it has had all of
//     them, and nothing else in between: anything else would shift the distances, and what it decodes would be wrong.
//   - All else is blocks that stand alone ([AppendAlone]), which fit in anywhere.
//   - What the end needs to know of an answer, its [Sum], is put together from parts that are summed up once for all clients.
package deflate
