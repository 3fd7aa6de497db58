// Package translate turns what a legacy service sends into messages: a name, data and an id each, not yet in a stream. Payloads come in
// at one end - a WebSocket message, the body of a poll, pieces of a body that never ends - and messages leave at the other, from where
// package stream encodes them as events.
//
// It holds what all sources have in common:
//
//   - [Program], [Code]: what SELECT, EVENT, DATA, ID, DONE and KEY make of a message. Package jq runs them within bounds.
//   - [Body], [Records]: events, lines, JSON values and parts of multipart out of a streamed body.
//   - [Patcher]: the JSON patches between successive documents.
//   - [State], [Text]: what STATE remembers, and templates of which only the stream's own placeholders are left to fill in.
//   - [Refused], [ErrFinished], [Later], [Meaning]: what the end of a connection or an answer means for the stream.
//   - [LooksSecret], [NamesSecret], [Climbs]: judgements about texts that come from outside.
//
// What undoes compression, MessagePack and CBOR is package decode; what speaks a protocol inside of a WebSocket is package dialect; the
// bytes of text/event-stream are package sse.
//
// # Rules
//
//   - Pure: no network, no goroutine, no clock. The time is an argument, and so is the context that bounds a program. A test in
//     package proxy looks at the source of this and the packages below.
//   - dialect imports translate and decode, decode imports translate; translate imports jq, lines and sse, and nothing else of the program.
//   - What comes from upstream is hostile: whatever is kept of it has a bound, stated where it is kept, and no error, which ends up in a
//     log, quotes a payload.
//   - Bytes that no program changes leave as they came: numbers keep their digits, objects the order of their names.
//   - JSON is written by this program's own code (json.go, package jq), never by encoding/json, whose output differs between
//     releases of Go; what is emitted must not depend on the toolchain.
//
// # How to add to it
//
//   - A program setting: a field of [Program], its use in appendItem, and a row in TestApply. package upstream compiles it.
//   - A format of streamed bodies: an implementation of [Records] in a file body_*.go, and its choice in [NewBody] and sniff; a row in
//     TestBody, which gives it every text in random pieces.
//   - A variable that programs see: its name in variables, its value in newInput.
package translate
