// Package peer is what replicas say to each other directly: one that gets a client's request which another has to answer, because
// that holds the page of a tunnel or runs the source of a stream, asks it, and hands its answer to the client.
//
// # The wire
//
//	POST /_sidestream/peer/1 HTTP/1.1          to the address that the directory has for the replica
//	Sidestream-Peer: to=ID, time=MS, nonce=N, body=DIGEST, mac=MAC
//
//	{"kind":"tunnel","address":"192.0.2.7:50100","tls":true}\n
//	GET /_sidestream/tunnel?page=... HTTP/1.1\r\n...\r\n\r\n        the head of the client's request, and its body
//
// ID is the replica's that is asked, MS the time in ms since 1970, N 32 hex digits chosen at random, DIGEST the SHA-256 of the whole body in
// hex, and MAC the HMAC-SHA256 in hex, under the shared secret, of these lines:
//
//	sidestream peer request 1\n METHOD\n TARGET\n ID\n MS\n N\n DIGEST\n
//
// So all of the client's request is signed: its method, target, Host, every header, its address, whether it came over TLS, and its body. It
// travels within the body, where nothing between two replicas has a reason to touch it.
//
// The answer is the owner's answer to the client, as it comes, with one more header, which has to be there for it to be believed:
//
//	Sidestream-Peer: WORD ARGUMENT MAC         of: sidestream peer answer 1\n N\n WORD\n ARGUMENT\n
//
//	served  -          the client's answer
//	clock   MS         403: the request's time is off; MS is that of the one asked, by which the other asks once more
//	other   -          421: it is not ID
//	full    -          503: it has no room for the request's body
//
// Everything else that is wrong with a request, a MAC above all, is a 403 without it.
//
// # Rules
//
//   - Nothing of a request's body is read before its MAC is right, and nothing of it is believed before its digest is.
//   - A request is good for one use: its nonce is remembered for as long as its time is accepted, by the one process that it names.
//   - A request is sent once. Only one whose connection could not be made, or which was refused with a MAC, was certainly not served.
//   - What is asked never asks others: see [Handler].
//   - Replicas' clocks may differ: each learns those of the others.
//   - An address that was known is used while the directory has none, or is away: a process that is not the one meant says so.
//   - The MAC makes a request genuine, not secret. What listens on Settings.Listen belongs on a network of the operator's own, or behind TLS.
//
// # Files
//
//   - peer.go: [Peers], and who is where. ask.go: asking. serve.go: being asked. sign.go: MACs. question.go: a request as bytes.
//   - seen.go: nonces. room.go: bounds.
package peer
