// Package wsconn is the client's side of a WebSocket (RFC 6455) once it is open, with permessage-deflate (RFC 7692) for what is received. It is for
// many connections on which little happens: one that waits has no goroutine of its own beside its reader, and no buffer.
//
// # Rules
//
//   - What breaks the protocol ends the connection, and the peer is told by which code: 1002, or 1007 where data is not what it says, be it text that
//     is not UTF-8 or compressed data that is corrupt.
//   - A message is whole, or its reader has an error that is not io.EOF.
//   - Pings are answered before the reader waits, also in the midst of a message; those that come faster than that in one write, and where they are
//     more than it holds the newest ones (RFC 6455, section 5.5.3).
//   - What is kept is bounded: a buffer while a message is read, a window where messages refer to earlier ones. The size of messages is for the caller
//     to bound, who reads them piece by piece.
//   - Nothing that is sent is compressed.
package wsconn
