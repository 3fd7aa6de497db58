// This file is how far a Redis stream was read, and how it is found out that something is missing there: see redis_streams.go.

package upstream

import (
	"crypto/sha256"
	"errors"
	"strconv"
	"strings"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
)

// entryID is the id of a stream's entry. The zero value is before all.
type entryID struct{ ms, seq uint64 }

func parseEntryID(text string) (id entryID, err error) {
	ms, seq, both := strings.Cut(text, "-")
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err == nil && both {
		id.seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil || !both {
		return entryID{}, redisconn.ErrProtocol
	}
	return id, nil
}

func (id entryID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id entryID) before(other entryID) bool {
	return id.ms < other.ms || id.ms == other.ms && id.seq < other.seq
}

// streamPlace is how far a stream was read.
type streamPlace struct {
	id    entryID // of the newest entry that was read
	added int64   // how many entries had been added with it; -1: not known
}

// Save is the place in each stream. Keys are digests: they may hold what a client has sent.
func (s *redisStreams) Save() []byte {
	var fields []string
	for key, p := range s.places {
		digest := sha256.Sum256([]byte(key))
		fields = append(fields, string(digest[:]), p.id.String(), strconv.FormatInt(p.added, 10))
	}
	if fields == nil {
		return nil
	}
	return save(fields...)
}

// Restore is Save's other half.
func (s *redisStreams) Restore(saved, _ []byte) error {
	at, err := s.from()
	if err != nil {
		return err
	}
	keys := map[string]string{}
	for _, key := range at.streams {
		digest := sha256.Sum256([]byte(key))
		keys[string(digest[:])] = key
	}
	fields, err := restore(saved, 3*len(at.streams))
	if err != nil {
		return err
	}
	places := map[string]streamPlace{}
	for ; len(fields) > 0; fields = fields[3:] {
		id, err := parseEntryID(fields[1])
		added, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || err2 != nil {
			return translate.ErrSaved
		}
		if key := keys[fields[0]]; key != "" {
			places[key] = streamPlace{id, added}
		}
	}
	s.places = places
	return nil
}

// streamInfo is what XINFO STREAM says. The zero value is a stream that is not there.
type streamInfo struct {
	last        entryID // ever added
	first, tail entryID // that there are; zero: none is
	length      int64
	added       int64 // ever; -1: the server does not count
	there       bool
}

func (c *redisStreamsConn) info(key string) (streamInfo, error) {
	v, err := c.conn.Ask(maxEntryID, "XINFO", "STREAM", key)
	if refused, ok := errors.AsType[*redisconn.Error](err); ok && refused.Code == "ERR" && refused.Says("no such key") {
		return streamInfo{}, nil
	}
	if err != nil {
		return streamInfo{}, err
	}
	info := streamInfo{there: true, added: -1}
	for i := 0; i+1 < len(v.List); i += 2 {
		if err := info.note(v.List[i].Text, v.List[i+1]); err != nil {
			return info, err
		}
	}
	return info, nil
}

func (info *streamInfo) note(name string, v redisconn.Value) (err error) {
	switch name {
	case "last-generated-id":
		info.last, err = parseEntryID(v.Text)
	case "length":
		info.length, err = strconv.ParseInt(v.Text, 10, 64)
	case "entries-added":
		info.added, err = strconv.ParseInt(v.Text, 10, 64)
	case "first-entry", "last-entry":
		if len(v.List) == 0 {
			return nil
		}
		id, err := parseEntryID(v.List[0].Text)
		if name == "first-entry" {
			info.first = id
		} else {
			info.tail = id
		}
		return err
	}
	if err != nil {
		return redisconn.ErrProtocol
	}
	return nil
}

// lost compares what a stream says of itself with our place in it, and reports whether entries are missing before what is read next. What cannot be
// told yet is found out when the newest entry is read. fresh: a connection has just been made.
func (c *redisStreamsConn) lost(key string, info streamInfo, fresh bool) (lost bool) {
	p := c.places[key]
	delete(c.checks, key)
	switch unread := p.id.before(info.tail); {
	case !info.there:
		lost = p.id != entryID{} || p.added > 0
		p = streamPlace{}
	case info.last.before(p.id):
		lost = true
		p = streamPlace{added: max(info.added-info.length, -1)}
	case !unread: // what was added since, if anything was, is there no more
		lost = info.added >= 0 && p.added >= 0 && info.added != p.added || p.id.before(info.last) && (info.added < 0 || p.added < 0)
		p = streamPlace{info.last, info.added}
	case p.id.before(info.first): // all that there is was not read
		counted := info.added >= 0 && p.added >= 0
		lost = counted && info.added-info.length != p.added || !counted && fresh && p.id != entryID{}
		p.added = max(info.added-info.length, -1)
	}
	c.places[key] = p
	if info.added >= 0 && p.id.before(info.tail) {
		c.checks[key] = streamPlace{info.tail, info.added}
	}
	return lost
}

// passed is the place after the entry id has been read, and whether any up to it are missing. Where the newest entry was deleted meanwhile, the next
// look tells.
func (c *redisStreamsConn) passed(key string, p streamPlace, id entryID) (_ streamPlace, lost bool) {
	p.id = id
	if p.added >= 0 {
		p.added++
	}
	if check, pending := c.checks[key]; pending && !id.before(check.id) {
		delete(c.checks, key)
		if check.id == id {
			lost = p.added >= 0 && p.added != check.added
			p.added = check.added
		}
	}
	return p, lost
}
