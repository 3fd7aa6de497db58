// Package dialect speaks the protocols that legacy services use inside of WebSockets - Socket.IO, STOMP, MQTT, SignalR and others - as a
// subscriber: frames in, messages out, and whatever has to be sent for that.
//
// A [Session] speaks one dialect for one stream. [Table] lists the dialects, [Find] finds one by the value of PROTOCOL, and a
// [Script] wraps what a route adds to any of them: HELLO, STATE, REPLY, PING, CLOSE, TICKET and DIAL.
//
// # Files
//
//   - session.go: the interface, and the types that cross it. table.go: the table, and what a dialect declares about itself.
//   - wire.go, json.go, servertext.go: what the dialects have in common. Whatever a second dialect needs moves there.
//   - script*.go: what a route adds.
//   - Everything else: one file or group of files per dialect, <name>.go with its frame table and rules, then <name>_settings.go,
//     <name>_refusal.go and so on where there is enough of it.
//
// # Rules
//
//   - A session does no I/O, asks no clock and starts no goroutine: package upstream dials, sends, waits and tells it what happens. So
//     a session is tested by a transcript, see TestGolden.
//   - What a session keeps is bounded, whatever the server sends; the fuzz targets check that.
//   - Ready means that the server has confirmed the subscriptions, as far as its protocol has that: what it refuses before is the HTTP
//     status of the first client.
//   - Resumed is only claimed when the protocol guarantees that nothing was lost; in doubt it is a gap.
//   - Texts of the server reach an error only through serverText, and credentials of CONNECT never do.
//   - What is wrong with a setting is found by the dialect's Check, before anything is dialled; its error tells what to write instead.
//
// README.md beside this file describes each dialect for its users, and ends with how to add one.
package dialect
