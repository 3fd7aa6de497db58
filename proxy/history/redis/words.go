package redis

import (
	"context"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

const maxWords = "1000" // that are kept for replicas that cannot reach the store for the moment

// Tell tells the other replicas something. Each gets it once, also one that cannot reach the store for the moment; one that begins later does
// not. The error says that the store cannot be reached.
func (s *Store) Tell(ctx context.Context, words []byte) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return history.ErrAway
	}
	return c.Do(ctx, c.B().Xadd().Key(s.buckets[0].words(s)).Maxlen().Almost().Threshold(maxWords).Id("*").
		FieldValue().FieldValue("w", s.replica).FieldValue("m", rueidis.BinaryString(words)).Build()).Error()
}

// Hear has f called with what other replicas tell, one after the other. Called once, before anything is told.
func (s *Store) Hear(f func(words []byte)) { s.hear.Store(&f) }

// heard takes an entry of the words.
func (s *Store) heard(fields map[string]string) {
	if f := s.hear.Load(); f != nil && fields["w"] != s.replica {
		(*f)([]byte(fields["m"]))
	}
}
