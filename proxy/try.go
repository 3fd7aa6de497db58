package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

// Tried is what came of connecting a route once.
type Tried struct {
	Missing []string      // placeholders that only a client's request fills; there are some: nothing was tried
	Took    time.Duration // until the upstream had agreed
	Err     error         // why it has not; it holds no secret
}

// tryTime is how long an upstream is waited for.
const tryTime = 15 * time.Second

// Try connects rt to its upstream once, as its first client would have it done, and lets go again.
func Try(ctx context.Context, rt *RouteSettings, log *slog.Logger) (t Tried) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return Tried{Err: err}
	}
	nothing := func(string) string { return "" }
	if t.Missing = rt.Upstream.Missing(r, nothing, nothing); len(t.Missing) > 0 {
		return t
	}
	req, err := rt.Upstream.ExpandFor(r, nothing, nothing)
	if err != nil {
		return Tried{Err: err}
	}
	streams := stream.NewStreams(settings(rt, log))
	defer upstream.CloseIdle()
	defer rt.Upstream.CloseIdle()
	defer streams.Close()
	begun := time.Now()
	seat, err := streams.Join(ctx, req)
	if err != nil {
		return Tried{Err: err}
	}
	defer seat.Leave()
	t.Err = agreed(ctx, streams)
	t.Took = time.Since(begun)
	return t
}

// agreed waits until the only stream of streams is connected, or has failed.
func agreed(ctx context.Context, streams *stream.Streams) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		switch h := streams.Health(); {
		case h.State == stream.Up:
			return nil
		case h.Error != "":
			return errors.New(h.Error)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v", tryTime)
		}
	}
}
