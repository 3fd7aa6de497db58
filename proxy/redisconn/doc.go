// Package redisconn is where a Redis is, and one connection to it (RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/). The history
// takes the addresses from here, and sources both. The rules of connections:
//
//   - Nothing is allocated because the server has announced it: the caller says how much of a value is kept, and the rest is read past. The library
//     that the history uses (rueidis 1.0.79) allocates what length the server writes, so that a wrong one ends the process, and takes 380 KiB and three
//     goroutines for each client; a source is one connection of one user, of which there may be ten thousand.
//   - No goroutine: who reads is who calls. What cancels a call closes the connection.
//   - Errors say nothing of what the server has sent, but for the first word of an error of its own, such as NOPERM.
//
// | file | holds |
// |---|---|
// | address.go | addresses and how they are written |
// | open.go | dialling, logging in, sentinels |
// | conn.go | commands and answers |
package redisconn
