package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sidestream/proxy"
)

// ErrLive is returned where not every route that could be tried has connected.
var ErrLive = errors.New("not every route has connected")

// CheckLive connects each route once, all at the same time, and prints what came of it in their order, with what to do. It fails with [ErrLive], or
// when w does.
func CheckLive(ctx context.Context, routes []*proxy.RouteSettings, w io.Writer, log *slog.Logger) error {
	tried := make([]proxy.Tried, len(routes))
	var all sync.WaitGroup
	for i, rt := range routes {
		if rt.Upstream.Merges() == nil {
			all.Go(func() { tried[i] = proxy.Try(ctx, rt, log) })
		}
	}
	all.Wait()
	var failed error
	fmt.Fprintln(w)
	for i, t := range tried {
		text := fmt.Sprintf("connected within %v", max(t.Took.Round(time.Millisecond), time.Millisecond))
		switch {
		case routes[i].Upstream.Merges() != nil:
			text = "merges " + strings.Join(routes[i].Upstream.Merges(), ", ") + ", which are tried by themselves"
		case len(t.Missing) > 0:
			text = fmt.Sprintf("not tried: it needs %s; try it with tap", strings.Join(t.Missing, ", "))
		case t.Err != nil:
			failed = ErrLive
			text = fmt.Sprintf("%v\n         %s", t.Err, fix(t.Err.Error()))
		}
		if _, err := fmt.Fprintf(w, "live     %s: %s\n", routes[i].Name, text); err != nil {
			return err
		}
	}
	return failed
}
