// Package h2 takes streams of HTTP/2 out of net/http, whose server keeps a goroutine, a buffer and a request for each (RFC
// 9113 and its section numbers). It sits below: a [Conn] sees the frames that go by, and a [Filler] writes to the streams
// that it has adopted. It knows nothing of what they carry. The rules:
//
//   - net/http reads every request and asks the handler, and what it writes goes out as it is. Only the end of an adopted
//     stream does not: when its handler returns, net/http ends the stream with an empty frame. That one is left out, and the
//     stream goes on, written to by the filler.
//   - No header is read or written here: the state of their compression stays between net/http and the client. Of what the client's do
//     to it an account is kept (table.go), for net/http's next visit.
//   - net/http leaves a connection that it has nothing to do with, and is called back with the next request (parked.go, visit.go).
//   - The connection's flow-control window is net/http's and ours: net/http takes all of it for its own. What it sends beyond
//     what is left of it waits here, while everything else goes by (held.go).
//   - net/http takes a connection without streams of its own for an idle one. So its timeout is off, and ours is here.
//   - Nothing is written while mu is held, and a goroutine that holds mu waits for nothing but other locks.
//   - What of net/http this builds on is written down in selftest.go, and tried before anything is adopted: [Check].
//
// # The equation
//
// Of a connection's window there are two accounts: avail is what the client has granted of it and has not been sent, and
// granted what net/http takes for the same. They differ by what net/http has sent that waits here, and by what adopted
// streams have sent:
//
//	granted + waiting = avail + owed        avail, waiting, owed ≥ 0
//
// where waiting is the bytes of data in held, and owed what adopted streams have used of the window and net/http has not
// been told of. A grant of n bytes raises avail by n. Of that min(n, owed) makes up for what is owed, and net/http is told of
// the rest: so it is never held up by a window that the client has granted. An adopted stream's window is its own account,
// and what is sent in it comes off both:
//
//	window = initial + what was granted of it − what was sent in it
//
// A stream of net/http's has its window counted by net/http alone. Conn.broken says which of this does not hold; the tests ask
// it after every step.
package h2
