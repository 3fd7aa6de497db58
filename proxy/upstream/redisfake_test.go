package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/e2e/pipes"
)

// fakeRedis is a server in memory with streams and channels.
type fakeRedis struct {
	t *testing.T

	mu      sync.Mutex                                       // guards what follows
	old     bool                                             // of before version 7: it does not count
	answer  func(c *fakePeer, words []string) (string, bool) // what it says to a command, if that is special
	mute    bool                                             // PINGs are not answered
	streams map[string]*fakeStream
	lives   map[string]int64 // of each stream
	grown   chan struct{}    // closed, and replaced, when a stream has
	peers   []*fakePeer
	asked   []string
}

type fakeStream struct {
	entries []fakeEntry
	last    entryID
	added   int64
}

type fakeEntry struct {
	id     entryID
	fields []string
}

type fakePeer struct {
	net.Conn
	in *bufio.Reader
}

// withRedis runs f with a server in memory, at whatever address is dialled.
func withRedis(t *testing.T, f func(t *testing.T, r *fakeRedis)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pipes.Listen()
		r := &fakeRedis{t: t, streams: map[string]*fakeStream{}, lives: map[string]int64{}, grown: make(chan struct{})}
		var serving sync.WaitGroup
		serving.Go(func() { // ends with l
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p := &fakePeer{c, bufio.NewReader(c)}
				r.mu.Lock()
				r.peers = append(r.peers, p)
				r.mu.Unlock()
				serving.Go(func() { r.serve(p) }) // ends with c
			}
		})
		real := redisDial
		redisDial = l.Dial
		defer func() {
			redisDial = real
			l.Close()
			r.cut()
			serving.Wait()
		}()
		f(t, r)
	})
}

// answers has the server say something special from now on.
func (r *fakeRedis) answers(answer func(c *fakePeer, words []string) (string, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// cut ends all connections.
func (r *fakeRedis) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		p.Close()
	}
	r.peers = nil
}

// push writes to all connections.
func (r *fakeRedis) push(text string) {
	r.mu.Lock()
	peers := slices.Clone(r.peers)
	r.mu.Unlock()
	for _, p := range peers {
		io.WriteString(p, text)
	}
}

// publish is a message for all connections, whatever they have subscribed to.
func (r *fakeRedis) publish(channel, data string) { r.push(array("message", channel, data)) }

func array(words ...string) string {
	text := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	return text
}

func (r *fakeRedis) serve(p *fakePeer) {
	defer p.Close()
	for {
		words, err := p.command()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.asked = append(r.asked, strings.Join(words, " "))
		answer := r.answer
		r.mu.Unlock()
		text, special := "", false
		if answer != nil {
			text, special = answer(p, words)
		}
		if !special {
			text = r.usual(p, words)
		}
		if _, err := io.WriteString(p, text); err != nil {
			return
		}
	}
}

func (p *fakePeer) command() (words []string, err error) {
	number := func(kind byte) (n int) {
		var line string
		if line, err = p.in.ReadString('\n'); err == nil && line[0] == kind {
			n, err = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n
	}
	for range number('*') {
		text := make([]byte, number('$')+2)
		if err != nil {
			return nil, err
		}
		if _, err = io.ReadFull(p.in, text); err != nil {
			return nil, err
		}
		words = append(words, string(text[:len(text)-2]))
	}
	return words, err
}

func (r *fakeRedis) usual(p *fakePeer, words []string) string {
	switch words[0] {
	case "SUBSCRIBE", "PSUBSCRIBE":
		text := ""
		for i, name := range words[1:] {
			text += fmt.Sprintf("*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(words[0]), strings.ToLower(words[0]), len(name), name, i+1)
		}
		return text
	case "PING":
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.mute {
			return ""
		}
		return array("pong", "")
	case "XREAD":
		return r.xread(words)
	case "XINFO":
		return r.xinfo(words[2])
	}
	return "+OK\r\n"
}

// add appends an entry; the zero id: the next one.
func (r *fakeRedis) add(key string, id entryID, fields ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.streams[key]
	if s == nil {
		s = &fakeStream{added: 1000 * r.lives[key] * r.lives[key]} // as many as no other one has had
		r.lives[key]++
		r.streams[key] = s
	}
	if id == (entryID{}) {
		id = entryID{ms: max(uint64(time.Now().UnixMilli()), s.last.ms), seq: s.last.seq + 1}
	}
	if !s.last.before(id) {
		r.t.Errorf("%v is not after %v", id, s.last)
	}
	s.last, s.added = id, s.added+1
	s.entries = append(s.entries, fakeEntry{id, fields})
	close(r.grown)
	r.grown = make(chan struct{})
}

// change does something to a stream.
func (r *fakeRedis) change(key string, f func(s *fakeStream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.streams[key]; s != nil {
		f(s)
	}
}

func (r *fakeRedis) trim(key string, keep int) {
	r.change(key, func(s *fakeStream) { s.entries = s.entries[max(0, len(s.entries)-keep):] })
}

func (r *fakeRedis) drop(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, key)
}

func (r *fakeRedis) xread(words []string) string {
	at := slices.Index(words, "STREAMS")
	keys := words[at+1 : at+1+(len(words)-at-1)/2]
	ids := words[at+1+len(keys):]
	var wait time.Duration
	most := 1 << 30
	for i := 1; i < at; i += 2 {
		n, _ := strconv.Atoi(words[i+1])
		if words[i] == "BLOCK" {
			wait = time.Duration(n) * time.Millisecond
		} else {
			most = n
		}
	}
	for until := time.After(wait); ; {
		r.mu.Lock()
		text, n := "", 0
		for i, key := range keys {
			var found []fakeEntry
			if s := r.streams[key]; s != nil && ids[i] != "$" {
				after, _ := parseEntryID(ids[i])
				for _, e := range s.entries {
					if after.before(e.id) && len(found) < most {
						found = append(found, e)
					}
				}
			}
			if found != nil {
				n++
				text += fmt.Sprintf("*2\r\n$%d\r\n%s\r\n*%d\r\n", len(key), key, len(found))
			}
			for _, e := range found {
				text += fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(e.id.String()), e.id, array(e.fields...))
			}
		}
		grown := r.grown
		r.mu.Unlock()
		if n > 0 {
			return fmt.Sprintf("*%d\r\n", n) + text
		}
		if wait == 0 {
			return "*-1\r\n"
		}
		select {
		case <-grown:
		case <-until:
			return "*-1\r\n"
		}
	}
}

func (r *fakeRedis) xinfo(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.streams[key]
	if s == nil {
		return "-ERR no such key\r\n"
	}
	entry := func(e fakeEntry) string {
		return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(e.id.String()), e.id, array(e.fields...))
	}
	first, last := "$-1\r\n", "$-1\r\n"
	if n := len(s.entries); n > 0 {
		first, last = entry(s.entries[0]), entry(s.entries[n-1])
	}
	text, n := fmt.Sprintf("$6\r\nlength\r\n:%d\r\n$17\r\nlast-generated-id\r\n+%v\r\n", len(s.entries), s.last), 8
	if !r.old {
		text, n = text+fmt.Sprintf("$13\r\nentries-added\r\n:%d\r\n", s.added), n+2
	}
	return fmt.Sprintf("*%d\r\n", n) + text + "$11\r\nfirst-entry\r\n" + first + "$10\r\nlast-entry\r\n" + last
}

// commands are those asked so far that begin with a word.
func (r *fakeRedis) commands(word string) (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.asked {
		if strings.HasPrefix(line, word) {
			all = append(all, line)
		}
	}
	return all
}
