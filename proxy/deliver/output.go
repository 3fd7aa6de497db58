package deliver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"time"

	"sidestream/translate/sse"
)

// byNetHTTP returns l, for TLS with a config, for one server of net/http, all of whose clients have goroutines.
func byNetHTTP(l net.Listener, config *tls.Config) (first, second net.Listener) {
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, nil
}

type connKey struct{}

// WithConn is for [http.Server].ConnContext: it lets Serve reach the connection below net/http.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(interface{ below() net.Conn }); ok {
		c = over.below()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// output is the answer's body.
type output struct {
	w         http.ResponseWriter
	flusher   *http.ResponseController
	conn      net.Conn // nil where it is not known
	unchunked bool     // HTTP/1.0
	held      []byte   // the answer so far, where it...
	holds     bool     // ...is to leave as a whole
	deadlines bool     // the kernel does not watch over this connection, or not over this stream of it
}

// newOutput writes the header of an event stream.
func newOutput(w http.ResponseWriter, r *http.Request) *output {
	setHeader(w.Header())
	o := &output{w: w, flusher: http.NewResponseController(w), unchunked: !r.ProtoAtLeast(1, 1),
		deadlines: r.ProtoMajor > 1 || runtime.GOOS != "linux"}
	o.conn, _ = r.Context().Value(connKey{}).(net.Conn)
	if secured, ok := o.conn.(*tls.Conn); ok {
		o.conn = secured.NetConn()
		if below, ok := o.conn.(interface{ NetConn() net.Conn }); ok {
			o.conn = below.NetConn()
		}
	}
	if _, local := o.conn.(*localConn); local {
		o.deadlines = true
	}
	w.WriteHeader(http.StatusOK)
	return o
}

// setHeader sets what every event stream has in its header.
func setHeader(h http.Header) {
	h.Set("Content-Type", sse.ContentType)
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx: do not wait for more
}

// limit bounds the time that the answer may take, where the kernel does not.
func (o *output) limit(d time.Duration) {
	if o.deadlines {
		o.flusher.SetWriteDeadline(time.Now().Add(d))
	}
}

// cut makes a write fail that does not end. Any goroutine may call it while the handler runs.
func (o *output) cut() { o.flusher.SetWriteDeadline(time.Unix(1, 0)) }

// write sends words and then events at once. There is no deadline for each: in HTTP/2 that is two messages to the
// connection's goroutine.
func (o *output) write(words []byte, events ...[]byte) error {
	if o.holds {
		o.held = append(o.held, words...)
		for _, e := range events {
			o.held = append(o.held, e...)
		}
		return nil
	}
	if err := writeAll(o.w, words, events); err != nil {
		return err
	}
	return o.flusher.Flush()
}

// part gives what was written a moment to leave before the abort.
func (o *output) part(ctx context.Context) {
	t := time.NewTimer(moment)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// abort ends the answer so that no client takes it for complete. cut: see [Rest].
func (o *output) abort() (cut bool) {
	if tcp, ok := o.conn.(*net.TCPConn); ok && o.unchunked {
		o.drainQueue(tcp)
		tcp.SetLinger(0)
		// Closed below TLS: its close_notify would be a clean end.
		tcp.Close()
	}
	return true
}

// drainQueue waits until the kernel has sent what it holds, which a reset would throw away.
func (o *output) drainQueue(tcp *net.TCPConn) {
	for end := time.Now().Add(queueTime); unsent(tcp) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}
