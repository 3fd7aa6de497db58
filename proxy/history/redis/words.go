package redis

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

const (
	maxWords  = "1000"           // that are kept for replicas that cannot reach the store for the moment
	wordsTime = 10 * time.Minute // for which they are
)

// seal is what words are sealed by: they may hold a credential, which who has only the data is not to read.
func (s Settings) seal() cipher.AEAD {
	mac := hmac.New(sha256.New, []byte(s.Password))
	mac.Write([]byte("words of sidestream's replicas, " + s.Prefix))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic(err) // the key has the right size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Tell is [history.Words]'.
func (s *Store) Tell(ctx context.Context, words []byte) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return history.ErrAway
	}
	key := s.buckets[0].words
	sealed := s.sealed.Seal(nil, nil, words, []byte(s.replica))
	for _, r := range c.DoMulti(ctx,
		c.B().Xadd().Key(key).Maxlen().Almost().Threshold(maxWords).Id("*").FieldValue().FieldValue("w", s.replica).FieldValue("m", rueidis.BinaryString(sealed)).Build(),
		c.B().Pexpire().Key(key).Milliseconds(wordsTime.Milliseconds()).Build()) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

// Hear is [history.Words]'.
func (s *Store) Hear(f func(words []byte)) { s.hear.Store(&f) }

// heard takes an entry of the words. What no replica has sealed is nothing.
func (s *Store) heard(fields map[string]string) {
	f, from := s.hear.Load(), fields["w"]
	if f == nil || from == s.replica {
		return
	}
	words, err := s.sealed.Open(nil, nil, []byte(fields["m"]), []byte(from))
	if err != nil {
		s.log.Warn("words of another replica cannot be read; do all have the same password in SSE_HISTORY?")
		return
	}
	(*f)(words)
}
