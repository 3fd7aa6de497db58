package redis

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Buckets spread the streams of a cluster over its nodes. Streams of one bucket share a slot, and a stream of hints.
const (
	buckets        = 16
	clusterBuckets = 64
)

// name is what a stream is called in keys: 16 bytes in hex.
type name string

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
	return name(hex.EncodeToString(sum[:16])), s.buckets[int(sum[31])%len(s.buckets)]
}

func (b *bucket) prefix(s *Store) string { return s.Prefix + ":{" + strconv.Itoa(b.number) + "}:" }

func (l *log) key(kind string) string {
	return l.bucket.prefix(l.store) + string(l.name) + ":" + kind
}

func (b *bucket) hints(s *Store) string { return b.prefix(s) + "n" }

func (b *bucket) words(s *Store) string { return b.prefix(s) + "w" }

// peerKey is where the address of a replica stands.
func (s *Store) peerKey(replica string) string { return s.Prefix + ":{r:" + replica + "}:p" }
