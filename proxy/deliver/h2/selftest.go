// This file is what of net/http this package builds on, beyond what its documentation promises, and how that is tried: net/http
// changes with each release of Go, without a word about this.
//
//   - The number of the stream that a ResponseWriter answers is found where StreamID looks for it.
//   - A handler that has flushed the head of its answer and returns ends its stream with an empty frame of data. Until then
//     net/http has written nothing but the head.
//   - It lets a client have as many streams at once as maxStreams, and says so.
//   - A request that depends on itself gets a stream error, and the connection goes on.
//   - A connection's window that becomes too large ends the connection with FLOW_CONTROL_ERROR.
//
// And of net/http that is called back to a connection (visit.go), which CheckParking tries:
//
//   - It says settings, grants more of the connection's window, acknowledges the client's settings, and resets the streams of two heads that are wrong,
//     before it says anything else.
//   - A head with a name in capitals gets a stream error, and what it has put into the table stays there.
//   - After one of a stream, whatever becomes of that, all streams with lower numbers have ended.

package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// selfTestTime is how long a connection in memory may take for what takes a millisecond.
const selfTestTime = 20 * time.Second

// Check tries what this package needs of net/http, over a connection in memory. It fails with what is not as it was: then no
// connection is to be wrapped.
func Check() error { return check(StreamID, func(c net.Conn) net.Conn { return c }) }

// check is Check with what finds a stream, and with between to be put between net/http and the connection.
func check(streamID func(http.ResponseWriter) uint32, between func(net.Conn) net.Conn) error {
	ours, theirs := net.Pipe()
	ours.SetDeadline(time.Now().Add(selfTestTime))
	f := &selfFiller{}
	v := Wrap(theirs, f, false)
	if err := f.try(ours, v, between, streamID, (*selfPeer).talk); err != nil {
		return fmt.Errorf("net/http of %s does not do what writing to HTTP/2 without goroutines builds on: %w", runtime.Version(), err)
	}
	return nil
}

// CheckParking tries what a connection that is parked needs of net/http besides. It fails with what is not as it was: then none is to be parkable.
func CheckParking() error { return checkParking(func(c net.Conn) net.Conn { return c }) }

func checkParking(between func(net.Conn) net.Conn) error {
	ours, theirs := net.Pipe()
	ours.SetDeadline(time.Now().Add(selfTestTime))
	f := &selfFiller{}
	c := Wrap(theirs, f, true).Conn
	c.newest, c.passing = 7, 0
	c.told.credit -= 100
	c.told.settings = []setting{{settingTable, tableMost}, {settingWindow, 70_000}}
	c.told.table.add(hpack.HeaderField{Name: ":path", Value: "/told"}) // among others: a pseudo-field after a field
	c.told.table.add(hpack.HeaderField{Name: "x-told", Value: "yes"})
	c.told.table.add(hpack.HeaderField{Name: ":authority", Value: "y"})
	v := &Visit{Conn: c}
	c.mu.Lock()
	c.comes(v)
	c.mu.Unlock()
	if err := f.try(ours, v, between, StreamID, (*selfPeer).talkBack); err != nil {
		return fmt.Errorf("net/http of %s does not take up a connection where it has left it: %w", runtime.Version(), err)
	}
	return nil
}

// try has net/http serve v, whose client is at the other end, ours, and talks.
func (f *selfFiller) try(ours net.Conn, v *Visit, between func(net.Conn) net.Conn, streamID func(http.ResponseWriter) uint32, talk func(*selfPeer) error) error {
	served := f.serve(between(v), v.Conn, streamID)
	p := &selfPeer{conn: ours, came: make(chan selfFrame, 64)}
	var running sync.WaitGroup
	running.Go(p.read) // ends with ours
	err := talk(p)
	ours.Close()
	v.Conn.Close()
	running.Wait()
	served()
	f.running.Wait()
	return errors.Join(f.err, err)
}

// selfFiller writes one byte to each stream, and ends it.
type selfFiller struct {
	running sync.WaitGroup
	streams []*Stream
	err     error // of the handler; read when nothing runs any more
}

// Fill and what follows are [Filler]'s.
func (f *selfFiller) Fill(w *Writer, _ time.Duration) time.Duration {
	for _, s := range f.streams {
		if w.Write(s, []byte("x")) == 1 {
			w.End(s)
		}
	}
	return Never
}
func (f *selfFiller) Ready(*Stream) bool             { return true }
func (f *selfFiller) Ended(*Stream, bool)            {}
func (f *selfFiller) Settle()                        {}
func (f *selfFiller) WakeAt(_ *Conn, _, _ time.Time) {}                                 // it does not take so long
func (f *selfFiller) Go(run func()) bool             { f.running.Go(run); return true } // ends with the connection
func (f *selfFiller) Closed()                        {}
func (f *selfFiller) Park(*Conn) bool                { return false } // it does not take so long
func (f *selfFiller) Quiet()                         {}
func (f *selfFiller) Recall(*Visit) bool             { return false }

// serve has net/http serve conn, which is c or what is in front of it, and returns what ends that.
func (f *selfFiller) serve(conn net.Conn, c *Conn, streamID func(http.ResponseWriter) uint32) (end func()) {
	s := &http.Server{Protocols: new(http.Protocols), IdleTimeout: -1, ErrorLog: log.New(io.Discard, "", 0)}
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			io.WriteString(w, "ok"+r.Header.Get("X-Told"))
			return
		}
		home := new(Stream)
		if !c.Adopt(streamID(w), home, func() { f.streams = append(f.streams, home) }) {
			f.err = errors.New("the stream of an answer is not where it was")
			return
		}
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
	})
	l := &oneConn{conn: conn, done: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() { s.Serve(l) }) // ends with end
	return func() {
		s.Close()
		running.Wait()
	}
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// selfPeer is the client.
type selfPeer struct {
	conn net.Conn
	came chan selfFrame // closed when nothing comes any more
}

type selfFrame struct {
	head
	payload []byte
}

// read passes on what comes, but for what says nothing here.
func (p *selfPeer) read() {
	defer close(p.came)
	for {
		var front [headSize]byte
		if _, err := io.ReadFull(p.conn, front[:]); err != nil {
			return
		}
		f := selfFrame{head: readHead(front[:])}
		f.payload = make([]byte, f.size)
		if _, err := io.ReadFull(p.conn, f.payload); err != nil {
			return
		}
		if f.kind != frameWindowUpdate && (f.kind != frameSettings || f.flags&flagAck == 0) {
			p.came <- f
		}
	}
}

// A request's head by the static table of HPACK (RFC 7541, appendix A): GET, http, and x as authority; then its path.
var (
	selfHead  = []byte{0x82, 0x86, 0x01, 1, 'x'}
	selfRoot  = append(selfHead[:len(selfHead):len(selfHead)], 0x84)
	selfPlain = append(append(selfHead[:len(selfHead):len(selfHead)], 0x04, 6), "/plain"...)
)

// selfStep is what the client says, and what it is to hear then.
type selfStep struct {
	say  []byte
	want string
	ok   func(f selfFrame) bool
}

// talk is the conversation. It fails with what was not said.
func (p *selfPeer) talk() error {
	if err := p.say(append([]byte(Preface), head{0, frameSettings, 0, 0}.append(nil)...)); err != nil {
		return err
	}
	return p.steps([]selfStep{
		{nil, "settings with the number of streams", func(f selfFrame) bool { return f.kind == frameSettings && advertises(f.payload) == maxStreams }},
		{head{0, frameSettings, flagAck, 0}.append(nil), "", nil},
		{request(1, 0, selfRoot), "the head of an answer that goes on", func(f selfFrame) bool { return f.is(frameHeaders, 1, flagEndHeaders) }},
		{nil, "what is written to an adopted stream", func(f selfFrame) bool { return f.is(frameData, 1, 0) && string(f.payload) == "x" }},
		{nil, "the end of that", func(f selfFrame) bool { return f.is(frameData, 1, flagEndStream) && f.size == 0 }},
		{request(3, 0, selfPlain), "the head of an answer beside it", func(f selfFrame) bool { return f.is(frameHeaders, 3, flagEndHeaders) }},
		{nil, "its body", func(f selfFrame) bool { return f.is(frameData, 3, flagEndStream) && string(f.payload) == "ok" }},
		{request(5, flagPriority, append([]byte{0, 0, 0, 5, 0}, selfRoot...)), "a stream error for a request that depends on itself", func(f selfFrame) bool {
			return f.is(frameReset, 5, 0)
		}},
		{request(7, 0, selfPlain), "an answer after that", func(f selfFrame) bool { return f.is(frameHeaders, 7, flagEndHeaders) }},
		{nil, "its body", func(f selfFrame) bool { return f.is(frameData, 7, flagEndStream) }},
		{largestUpdate, "the end of a connection whose window is too large", func(f selfFrame) bool {
			return f.kind == frameGoAway && f.size >= 8 && binary.BigEndian.Uint32(f.payload[4:]) == flowError
		}},
	})
}

// talkBack is the conversation with a net/http that was called back.
func (p *selfPeer) talkBack() error {
	told := []byte{0x82, 0x86, 0xbe, 0xc0, 0xbf} // the three fields in the table
	late := binary.BigEndian.AppendUint32(head{4, frameWindowUpdate, 0, 3}.append(nil), 1)
	late = binary.BigEndian.AppendUint32(head{4, frameReset, 0, 5}.append(late), 8)
	return p.steps([]selfStep{
		{append(late, request(9, 0, told)...), "the head of an answer", func(f selfFrame) bool { return f.is(frameHeaders, 9, flagEndHeaders) }},
		{nil, "the body of an answer to what the table has", func(f selfFrame) bool {
			return f.is(frameData, 9, flagEndStream) && string(f.payload) == "okyes"
		}},
		{request(11, 0, selfRoot), "the head of an answer that goes on", func(f selfFrame) bool { return f.is(frameHeaders, 11, flagEndHeaders) }},
		{nil, "what is written to an adopted stream", func(f selfFrame) bool { return f.is(frameData, 11, 0) && string(f.payload) == "x" }},
	})
}

// steps has them taken, and fails with the first that went otherwise.
func (p *selfPeer) steps(steps []selfStep) error {
	for _, step := range steps {
		if err := p.say(step.say); err != nil {
			return fmt.Errorf("before %s: %w", step.want, err)
		}
		if step.ok == nil {
			continue
		}
		f, open := <-p.came
		if !open {
			return fmt.Errorf("instead of %s: nothing", step.want)
		}
		if !step.ok(f) {
			return fmt.Errorf("instead of %s: %+v", step.want, f)
		}
	}
	return nil
}

func (p *selfPeer) say(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := p.conn.Write(b)
	return err
}

// is reports whether f is of a kind, a stream, and has these flags.
func (f selfFrame) is(kind byte, stream uint32, flags byte) bool {
	return f.kind == kind && f.stream == stream && f.flags == flags
}

// request is the head of one in a frame.
func request(stream uint32, flags byte, block []byte) []byte {
	return append(head{len(block), frameHeaders, flags | flagEndStream | flagEndHeaders, stream}.append(nil), block...)
}

// advertises is how many streams at once the settings of a server let a client have.
func advertises(settings []byte) uint32 {
	for ; len(settings) >= 6; settings = settings[6:] {
		if binary.BigEndian.Uint16(settings) == settingStreams {
			return binary.BigEndian.Uint32(settings[2:])
		}
	}
	return 0
}
