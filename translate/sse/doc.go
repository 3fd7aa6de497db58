// Package sse knows the bytes of text/event-stream (HTML Living Standard, section 9.2), and is the only package that does. It writes
// the events that clients are sent - those of the legacy service, and the stream.* events of Sidestream's own - and it reads the event
// streams of upstreams.
//
// # Rules
//
//   - Writing appends to a byte slice, and allocates nothing else: it happens once per event, whatever the number of clients.
//   - Whatever a name, an id or data hold, they stay inside their field. Nothing from upstream can end an event, or take a name that
//     EventSource or Sidestream use themselves.
//   - What real clients get wrong decides the layout of an event: encode.go lists it, with the client and version for each point.
//   - Reading is bounded: a decoder holds at most one event, of the size it is given.
//
// # How to add to it
//
// An event of Sidestream's own is a function Append… in encode.go, with its exact bytes in TestAppendExactBytes, and a row in the table of
// events in proxy/web/README.md. Its name begins with "stream.", which no upstream can use. What is appended to a stream already must keep its form:
// clients out there parse it.
package sse
