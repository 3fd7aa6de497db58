package redis

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

// maxNotes bounds the notes that tell of somebody.
const maxNotes = 20_000

// notes is where the notes of all replicas stand: a hash, whose fields are made of the notes' texts, and the values sealed.

// Note is [history.Notes]'. Two replicas that note the same at once may leave the time of either.
func (s *Store) Note(ctx context.Context, notes map[string]time.Time) error {
	if len(notes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return history.ErrAway
	}
	key := s.buckets[0].notes
	set := c.B().Hset().Key(key).FieldValue()
	for note, at := range notes {
		sealed := s.sealed.Seal(nil, nil, []byte(strconv.FormatInt(at.Unix(), 10)+" "+note), []byte("note"))
		set = set.FieldValue(s.noteField(note), rueidis.BinaryString(sealed))
	}
	for _, r := range c.DoMulti(ctx, set.Build(), c.B().Pexpire().Key(key).Milliseconds(history.NotesTime.Milliseconds()).Build()) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

// noteField is what a note is called.
func (s *Store) noteField(note string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte("note " + note))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Noted is [history.Notes]'. What no replica has sealed is left out; what is to go is removed. Where another replica notes it at that moment, that is lost
// until its next note.
func (s *Store) Noted(ctx context.Context) (map[string]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	c := s.wait(ctx)
	if c == nil {
		return nil, history.ErrAway
	}
	key := s.buckets[0].notes
	fields, err := c.Do(ctx, c.B().Hgetall().Key(key).Build()).AsStrMap()
	if err != nil {
		return nil, err
	}
	all := map[string]time.Time{}
	for _, sealed := range fields {
		text, err := s.sealed.Open(nil, nil, []byte(sealed), []byte("note"))
		if err != nil {
			continue
		}
		at, note, _ := strings.Cut(string(text), " ")
		if unix, err := strconv.ParseInt(at, 10, 64); err == nil {
			all[note] = time.Unix(unix, 0)
		}
	}
	for some := range slices.Chunk(history.Stale(all, maxNotes), 1000) {
		var names []string
		for _, note := range some {
			delete(all, note)
			names = append(names, s.noteField(note))
		}
		if err := c.Do(ctx, c.B().Hdel().Key(key).Field(names...).Build()).Error(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
