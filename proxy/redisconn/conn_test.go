package redisconn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// said is a connection at whose other end a server says text and then nothing more.
type said struct {
	net.Conn
	in io.Reader
}

func (s said) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s said) SetReadDeadline(time.Time) error  { return nil }
func (s said) SetWriteDeadline(time.Time) error { return nil }
func (s said) Write(p []byte) (int, error)      { return len(p), nil }
func (s said) Close() error                     { return nil }
func answering(text string) *Conn               { return newConn(said{in: strings.NewReader(text)}, "10.0.0.1:7000") }
func flat(v Value) string {
	switch {
	case v.Nil:
		return "nil"
	case v.Cut && v.List == nil:
		return "cut"
	case v.List == nil:
		return v.Text
	}
	var all []string
	for _, part := range v.List {
		all = append(all, flat(part))
	}
	return "[" + strings.Join(all, " ") + "]"
}

func TestReply(t *testing.T) {
	for text, want := range map[string]string{
		"+OK\r\n":                              "OK",
		":42\r\n":                              "42",
		"$5\r\nhello\r\n":                      "hello",
		"$0\r\n\r\n":                           "",
		"$-1\r\n":                              "nil",
		"*-1\r\n":                              "nil",
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n":        "[a [1]]",
		"$9\r\n123456789\r\n":                  "cut",
		"*2\r\n$9\r\n123456789\r\n$1\r\nb\r\n": "[cut b]",
		strings.Repeat("*1\r\n", 7) + "+deep\r\n": "[[[[[[[deep]]]]]]]",
	} {
		c := answering(text + "+next\r\n")
		v, err := c.Reply(8)
		if err != nil || flat(v) != want {
			t.Errorf("%q: %s, %v; want %s", text, flat(v), err, want)
		}
		if v, err := c.Reply(8); err != nil || v.Text != "next" { // it is read to its end
			t.Errorf("%q: then %v, %v", text, v, err)
		}
	}
}

// What a hostile server announces is not allocated, nor believed.
func TestHostileAnswers(t *testing.T) {
	for _, text := range []string{
		"$4611686018427387904\r\n", "$9223372036854775808\r\n", "$-2\r\n", "$1x\r\n", "$\r\n", "*99999999999\r\n", "*-7\r\n", "\r\n", "+OK\n",
		"HTTP/1.1 400 Bad Request\r\n", "\x15\x03\x03\x00\x02\x02\r\n", "$1\r\nab\r\n", "%1\r\n+a\r\n+b\r\n",
		strings.Repeat("*1\r\n", 9) + "+deep\r\n", "+" + strings.Repeat("x", bufferSize) + "\r\n",
	} {
		if _, err := answering(text).Reply(1 << 20); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	for _, text := range []string{"$3000000000\r\nabc", "*3000000000\r\n+a\r\n", "$10\r\nab", "$2\r\nab"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := answering(text).Reply(1 << 30); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", text, err)
		}
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 1<<20 {
			t.Errorf("%q: %d bytes allocated", text, allocated)
		}
	}
	many := "*100000\r\n" + strings.Repeat("$1\r\nx\r\n", 100000) + "+next\r\n"
	c := answering(many)
	if v, err := c.Reply(8); err != nil || !v.Cut || len(v.List) != maxList {
		t.Errorf("%d parts, %v", len(v.List), err)
	}
	if v, err := c.Reply(8); err != nil || v.Text != "next" {
		t.Errorf("then %v, %v", v, err)
	}
	// What is long inside leaves what is beside it.
	if v, err := answering("*2\r\n" + strings.TrimSuffix(many, "+next\r\n") + "+beside\r\n").Reply(8); err != nil || len(v.List) != 2 || v.List[1].Text != "beside" {
		t.Errorf("%d parts, %v", len(v.List), err)
	}
	nested := "+x\r\n"
	for range maxDepth - 1 {
		nested = "*10\r\n" + strings.Repeat(nested, 10)
		if len(nested) > 1<<20 {
			break
		}
	}
	if v, err := answering(nested).Reply(8); err != nil || kept(v) > maxParts+1 {
		t.Errorf("%d values are kept, %v", kept(v), err)
	}
}

func kept(v Value) int {
	n := 1
	for _, part := range v.List {
		n += kept(part)
	}
	return n
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"-NOPERM this user has no permissions\r\n": "the Redis answered NOPERM",
		"-ERR secret\r\n":                          "the Redis answered ERR",
		"-secret value\r\n":                        "the Redis answered an error",
		"-\r\n":                                    "the Redis answered an error",
		"-" + strings.Repeat("A", 25) + "\r\n":     "the Redis answered an error",
	} {
		_, err := answering(text).Reply(8)
		if _, ok := errors.AsType[*Error](err); !ok || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"MOVED 3999 127.0.0.1:6381":  "127.0.0.1:6381",
		"MOVED 3999 ::1:6381":        "[::1]:6381",
		"MOVED 3999 :6381":           "10.0.0.1:6381",
		"MOVED 3999 node.local:6381": "node.local:6381",
		"MOVED 3999 node.local:0":    "",
		"MOVED 3999":                 "",
		"ASK 3999 127.0.0.1:6381":    "",
	} {
		if got := newError([]byte(text)).Moved("10.0.0.1:7000"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// A command is what it was, whatever its words are.
func TestSend(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	got := make(chan string, 1)
	go func() { // ends with near
		text, _ := io.ReadAll(far)
		got <- string(text)
	}()
	if err := newConn(near, "").Send("SUBSCRIBE", "a\r\n*1\r\n$8\r\nFLUSHALL\r\n", ""); err != nil {
		t.Fatal(err)
	}
	near.Close()
	if want := "*3\r\n$9\r\nSUBSCRIBE\r\n$21\r\na\r\n*1\r\n$8\r\nFLUSHALL\r\n\r\n$0\r\n\r\n"; <-got != want {
		t.Errorf("written is something other than %q", want)
	}
}

// serve answers commands by their first word, each with the next of its answers.
func serve(t *testing.T, c net.Conn, answers map[string][]string) {
	in := answeringFrom(c)
	for {
		v, err := in.Reply(1 << 10)
		if err != nil {
			return
		}
		word := v.List[0].Text
		left := answers[word]
		if len(left) == 0 {
			t.Errorf("asked for %s", flat(v))
			c.Close()
			return
		}
		answers[word] = left[1:]
		if left[0] != "" {
			io.WriteString(c, left[0])
		}
	}
}

func answeringFrom(c net.Conn) *Conn { return newConn(c, "") }

// servers are in memory, by their addresses.
type servers map[string]map[string][]string

func (s servers) dialer(t *testing.T) Dialer {
	return Dialer{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		answers, there := s[address]
		if !there {
			return nil, errors.New("nobody listens at " + address)
		}
		near, far := net.Pipe()
		go serve(t, far, answers) // ends with near
		return near, nil
	}}
}

func TestOpen(t *testing.T) {
	ok := []string{"+OK\r\n"}
	cases := []struct {
		name, address string
		servers       servers
		at, err       string
	}{
		{"plain", "redis://h", servers{"h:6379": {"CLIENT": ok}}, "h:6379", ""},
		{"a user and a database", "redis://u:p@h/3", servers{"h:6379": {"AUTH": ok, "CLIENT": {"-NOPERM no\r\n"}, "SELECT": ok}}, "h:6379", ""},
		{"an old server without names", "redis://h", servers{"h:6379": {"CLIENT": {"-ERR unknown command\r\n"}}}, "h:6379", ""},
		{"a wrong password", "redis://:p@h", servers{"h:6379": {"AUTH": {"-WRONGPASS no\r\n"}}}, "", "the Redis answered WRONGPASS"},
		{"no password", "redis://h", servers{"h:6379": {"CLIENT": {"-NOAUTH no\r\n"}}}, "", "the Redis answered NOAUTH"},
		{"no database", "redis://h/9", servers{"h:6379": {"CLIENT": ok, "SELECT": {"-ERR DB index is out of range\r\n"}}}, "", "the Redis answered ERR"},
		{"one node of a cluster", "redis+cluster://a,b", servers{"b:6379": {"CLIENT": ok}}, "b:6379", ""},
		{"a master", "redis+sentinel://a,b/main", servers{"b:26379": {"SENTINEL": {"*2\r\n$1\r\nm\r\n$4\r\n7000\r\n"}}, "m:7000": {"CLIENT": ok}}, "m:7000", ""},
		{"one sentinel that is new", "redis+sentinel://a,b/main", servers{"a:26379": {"SENTINEL": {"*-1\r\n"}}, "b:26379": {"SENTINEL": {"*2\r\n$1\r\nm\r\n$4\r\n7000\r\n"}}, "m:7000": {"CLIENT": ok}}, "m:7000", ""},
		{"no such master", "redis+sentinel://a/main", servers{"a:26379": {"SENTINEL": {"*-1\r\n"}}}, "", ErrUnknownMaster.Error()},
		{"a sentinel that is none", "redis+sentinel://a/main", servers{"a:26379": {"SENTINEL": {"+OK\r\n"}}}, "", ErrProtocol.Error()},
		{"silence", "redis://h", servers{"h:6379": {"CLIENT": {""}}}, "", context.DeadlineExceeded.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, err := Parse(c.address)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				conn, err := a.Open(ctx, c.servers.dialer(t))
				switch {
				case c.err != "" && (err == nil || err.Error() != c.err):
					t.Errorf("%v, want %s", err, c.err)
				case c.err == "" && err != nil:
					t.Error(err)
				case err == nil && conn.At() != c.at:
					t.Errorf("at %s, want %s", conn.At(), c.at)
				}
				if conn != nil {
					conn.Close()
				}
			})
		})
	}
}

// Each byte is life; none for as long as Patience is not.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() { // ends with the last write
			for _, b := range []byte("$6\r\nabcdef\r\n") {
				time.Sleep(900 * time.Millisecond)
				far.Write([]byte{b})
			}
		}()
		c := newConn(near, "")
		c.Patience = time.Second
		if text, _, err := c.Text(10); err != nil || !bytes.Equal(text, []byte("abcdef")) {
			t.Errorf("%q, %v", text, err)
		}
		begun := time.Now()
		if err := c.Await(); err == nil || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n*1\r\n:1\r\n"))
	f.Add([]byte("$4611686018427387904\r\n"))
	f.Add([]byte("-MOVED 3999 ::1:6381\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := answering(string(data))
		v, err := c.Reply(16)
		if refused, ok := errors.AsType[*Error](err); ok {
			refused.Moved("h:1")
		}
		if err == nil && len(v.Text) > len(data) {
			t.Errorf("%q made %d bytes", data, len(v.Text))
		}
	})
}
