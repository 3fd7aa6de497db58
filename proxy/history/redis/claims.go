package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

// claimTime is for how long the key of a message is remembered.
const claimTime = 5 * time.Minute

// claimKey holds no part of the client's key as it is.
func (l *log) claimKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return l.key("i:" + hex.EncodeToString(sum[:16]))
}

// Claim is [history.Claims]'.
func (l *log) Claim(ctx context.Context, key string, digest [sha256.Size]byte) (history.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := l.store.wait(ctx)
	if c == nil || l.bucket.away.Load() {
		return history.ClaimNew, history.ErrAway
	}
	mine := hex.EncodeToString(digest[:])
	was, err := c.Do(ctx, c.B().Set().Key(l.claimKey(key)).Value(mine).Nx().Get().PxMilliseconds(claimTime.Milliseconds()).Build()).ToString()
	switch before, sent := strings.CutSuffix(was, "!"); {
	case rueidis.IsRedisNil(err):
		return history.ClaimNew, nil
	case l.store.note(l.bucket, err) != nil:
		return history.ClaimNew, err
	case before != mine:
		return history.ClaimOther, nil
	case sent:
		return history.ClaimSent, nil
	}
	return history.ClaimPending, nil
}

// Settle is [history.Claims]'.
func (l *log) Settle(ctx context.Context, key string, digest [sha256.Size]byte, sent bool) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := l.store.wait(ctx)
	switch {
	case c == nil:
	case sent:
		c.Do(ctx, c.B().Set().Key(l.claimKey(key)).Value(hex.EncodeToString(digest[:])+"!").PxMilliseconds(claimTime.Milliseconds()).Build())
	default:
		c.Do(ctx, c.B().Del().Key(l.claimKey(key)).Build())
	}
}
