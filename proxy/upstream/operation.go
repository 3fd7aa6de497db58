// This file is a route whose clients bring what to subscribe to (FACE=graphql-sse): GraphQL over Server-Sent Events, in the mode of distinct
// connections (protocol of graphql-sse 2.6). Its rules:
//
//   - The operation is an entry of the table as any: it is what goes upstream, and part of the identity.
//   - What a client reads is next, with a result, and complete, with nothing. Whatever the service refuses is a result with errors, then
//     complete.
//   - Such a client knows no gap. Where one would be reported, the stream is retired: its clients are cut, which their libraries know as the
//     moment after which something may be missing, and come back to a new one.

package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"sidestream/translate"
	"sidestream/translate/graphql"
)

// FaceGraphQL is the FACE of GraphQL over Server-Sent Events.
const FaceGraphQL = "graphql-sse"

// Sent is what a client has sent besides the head of its request. A nil one is of a client that has sent nothing.
type Sent struct {
	Operation string // of GraphQL, in its one form
	Body      string // of the POST that starts a run
}

// Operates reports whether clients bring what to subscribe to.
func (rt *Route) Operates() bool { return rt.settings.Face == FaceGraphQL }

// Documents are those that clients may have run; nil: any.
func (rt *Route) Documents() *graphql.Documents { return rt.documents }

const (
	needsOperation = "this route answers GraphQL subscriptions: POST the operation as JSON, or give ?query="
	needsBody      = "this route answers runs: start one with a POST, and come back to it with ?run= and its id"
)

// operation is the client's, in the place that SUBSCRIBE has on other routes.
func (c *compiler) operation() {
	s := c.s
	if s.Face != FaceGraphQL {
		if s.Face != "" && s.Face != "sse" {
			c.bad("FACE", "%q is not known; write sse, or graphql-sse on a route with PROTOCOL=graphql-transport-ws or graphql-ws", s.Face)
		}
		if s.Documents != "" {
			c.bad("DOCUMENTS", "is the list of the documents that clients may have run, and has no effect without FACE=graphql-sse; set that, or unset it")
		}
		return
	}
	if !c.rt.dialect.Operates {
		c.bad("FACE", "graphql-sse is for GraphQL subscriptions; write PROTOCOL=graphql-transport-ws or graphql-ws, and begin FROM with ws:// or wss://")
		return
	}
	for _, own := range [][2]string{{"SUBSCRIBE", s.Subscribe}, {"HELLO", s.Hello}, {"EVENT", s.Event}, {"ID", s.ID}, {"KEY", s.Key}, {"DONE", s.Done}, {"REPLY", s.Reply}} {
		if own[1] != "" {
			c.bad(own[0], "has no effect with FACE=graphql-sse: each client brings its own operation, and reads next and complete; unset it")
		}
	}
	if s.Send {
		c.bad("SEND", "has no place with FACE=graphql-sse, where a POST is a client's operation; unset it")
	}
	if s.Session {
		c.bad("SCOPE", "session has no place with FACE=graphql-sse, whose clients know no ?session=; unset it")
	}
	c.add(entry{setting: "SUBSCRIBE", template: template{[]part{{kind: "operation"}}}})
	if s.Documents == "" {
		return
	}
	var err error
	if c.rt.documents, err = graphql.ParseDocuments([]byte(s.Documents)); err != nil {
		c.bad("DOCUMENTS", "the file %v", err)
	}
}

// faced is a source whose messages are what a client of GraphQL over Server-Sent Events reads.
type faced struct {
	Source
	log   *slog.Logger
	shown func(error) error
}

func (f *faced) Connect(ctx context.Context) (Conn, error) {
	c, err := f.Source.Connect(ctx)
	if err == nil || final(err) {
		return &facedConn{Conn: c, faced: f, err: err}, nil
	}
	return nil, err
}

// facedConn is one connection, or what its opening has ended with.
type facedConn struct {
	Conn
	*faced
	err  error // Conn is nil
	over bool  // complete is emitted
}

func (c *facedConn) Resumed() bool { return c.err == nil && c.Conn.Resumed() }

func (c *facedConn) Send(ctx context.Context, m translate.Message) error { return ErrNoUplink }

// errMissing means that something is missing of what clients are to get.
var errMissing = errors.New("a message was larger than MAX_MESSAGE")

func (c *facedConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	err := c.err
	if err == nil {
		err = c.Conn.Run(ctx, func(ms []translate.Message) error { return c.results(ms, emit) })
	}
	var refused *translate.Refused
	switch {
	case ctx.Err() != nil && !c.over:
		return ctx.Err()
	case c.over:
		return translate.ErrFinished
	case errors.As(err, &refused):
		c.log.Warn("upstream refused", "err", c.shown(err))
		err = c.complete(emit, translate.Message{Event: "next", Data: graphql.Refusal(refused.Status), Verbatim: true})
	case errors.Is(err, translate.ErrFinished):
		err = c.complete(emit)
	default:
		err = missing{err}
	}
	return err
}

// missing ends a stream after which something may be missing, of which its clients are told by the cut.
type missing struct{ error }

func (m missing) Error() string {
	return fmt.Sprintf("events may be missing, which clients of FACE=%s are told by a cut: %v", FaceGraphQL, m.error)
}

// Unwrap returns ErrRetired and the reason.
func (m missing) Unwrap() []error { return []error{ErrRetired, m.error} }

// complete emits what comes last, unless it is emitted. Whatever becomes of the stream then, it is complete.
func (c *facedConn) complete(emit func([]translate.Message) error, last ...translate.Message) error {
	if !c.over {
		emit(append(last, completeMessage))
	}
	return translate.ErrFinished
}

var completeMessage = translate.Message{Event: "complete", Verbatim: true, Last: true}

// results emits what a client reads of messages.
func (c *facedConn) results(ms []translate.Message, emit func([]translate.Message) error) error {
	if ms == nil {
		return emit(nil)
	}
	out := make([]translate.Message, 0, len(ms))
	for _, m := range ms {
		if m.Gap != "" {
			if err := emit(out); err != nil {
				return err
			}
			return errMissing
		}
		if m.Last {
			out, c.over = append(out, completeMessage), true
			break
		}
		out = append(out, translate.Message{Event: "next", Data: oneLine(m.Data), Verbatim: true})
	}
	return emit(out)
}

// oneLine is JSON without line ends: some clients read the first line of data alone (@urql/core 6.0.3).
func oneLine(data []byte) []byte {
	if !bytes.ContainsAny(data, "\r\n") {
		return data
	}
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data // it is no result, which is the client's to find out
	}
	return b.Bytes()
}

// credential reports whether a client's header is who it is, rather than what it wants.
func credential(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Cookie", "Authorization", "Proxy-Authorization":
		return true
	}
	return translate.NamesSecret(name)
}
