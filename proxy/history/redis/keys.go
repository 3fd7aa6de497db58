package redis

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"unsafe"
)

// Buckets spread the streams of a cluster over its nodes. Streams of one bucket share a slot, and a stream of hints.
const (
	buckets        = 16
	clusterBuckets = 64
)

// name is what a stream is called in keys, there in hex.
type name [16]byte

func (n name) String() string { return hex.EncodeToString(n[:]) }

// parseName is String backwards.
func parseName(text string) (n name, ok bool) {
	if len(text) != 2*len(n) {
		return n, false
	}
	_, err := hex.Decode(n[:], []byte(text))
	return n, err == nil
}

// secret is the key that names are made with. All replicas have the same, and who has only a copy of the data does not have it.
func (s Settings) secret() []byte {
	mac := hmac.New(sha256.New, []byte(s.Password))
	mac.Write([]byte("names of sidestream's streams, " + s.Prefix))
	return mac.Sum(nil)
}

// nameOf is the name and the bucket of the stream of route with this identity.
func (s *Store) nameOf(route string, identity [sha256.Size]byte) (name, *bucket) {
	mac := hmac.New(sha256.New, s.key)
	fmt.Fprintf(mac, "%d:%s", len(route), route)
	mac.Write(identity[:])
	sum := mac.Sum(nil)
	return name(sum[:16]), s.buckets[int(sum[31])%len(s.buckets)]
}

// newBucket is the one with this number.
func (s *Store) newBucket(number int) *bucket {
	prefix := s.Prefix + ":{" + strconv.Itoa(number) + "}:"
	return &bucket{number: number, prefix: prefix, hints: prefix + "n", words: prefix + "w", notes: prefix + "o"}
}

// key is one of the stream's keys.
func (l *log) key(kind string) string {
	var room [128]byte
	return string(l.appendKey(room[:0], kind))
}

func (l *log) appendKey(b []byte, kind string) []byte {
	b = append(b, l.bucket.prefix...)
	b = hex.AppendEncode(b, l.name[:])
	b = append(b, ':')
	return append(b, kind...)
}

// token is what the lease holds when it is ours.
func (l *log) token() string {
	var room [64]byte
	return string(l.appendToken(room[:0]))
}

func (l *log) appendToken(b []byte) []byte {
	b = append(b, l.store.replica...)
	b = append(b, '|')
	return strconv.AppendUint(b, l.number, 10)
}

// isToken reports whether text is the token.
func (l *log) isToken(text string) bool {
	var room [64]byte
	return string(l.appendToken(room[:0])) == text
}

// peerKey is where the address of a replica stands.
func (s *Store) peerKey(replica string) string { return s.Prefix + ":{r:" + replica + "}:p" }

// scratch is what the commands for many streams are made in, one after the other. Thousands of streams that have nothing to say are asked about
// every other second for months: what that leaves behind would be most of what there is to collect.
type scratch struct {
	logs       []*log
	keys, args []string
	text       []byte // of the strings in keys and args
}

// begin begins a command.
func (c *scratch) begin(args ...string) {
	c.keys, c.args, c.text = c.keys[:0], append(c.args[:0], args...), c.text[:0]
}

// failed has to be called when a command was not answered: it may still be on its way.
func (c *scratch) failed() { c.keys, c.args, c.text = nil, nil, nil }

// key adds a key of l's.
func (c *scratch) key(l *log, kind string) {
	at := len(c.text)
	c.text = l.appendKey(c.text, kind)
	c.keys = append(c.keys, c.from(at))
}

// from is the text that begins at at. It stays what it is until the next command is begun: where text grows, the room that it had is left alone.
func (c *scratch) from(at int) string { return unsafe.String(&c.text[at], len(c.text)-at) }
