// This file compares a route with what it replaces: a connection as an old client has it, and the route's stream, side by side. The rules:
//
//   - The old connection is made here, by the route's own settings: it is a second subscriber, or a second poller, of the service.
//   - The stream is the one of the sidecar that runs with this configuration, as a client gets it; where none answers, one is run here.
//   - Both go through the route's programs, so that what differs without meaning anything can be left out by them.

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/migrate"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// ErrDifferent means that a route and what it replaces were not the same, or that nothing came to tell.
var ErrDifferent = errors.New("no parity")

// ErrCompareWords is wrapped by Compare's error when the words are off.
var ErrCompareWords = errors.New("the arguments of compare")

const (
	compareWait   = 10 * time.Second // for which a message may be ahead of its equal
	compareEvery  = 100 * time.Millisecond
	differences   = 20 // that are shown
	comparedDelay = 100_000
	comparedText  = 64 << 10 // bytes of a message that are kept to be shown
)

// Compared is what compare is asked for.
type Compared struct {
	Routes []*RouteSettings
	Sidecar
	Log  *slog.Logger
	Wait time.Duration // for which a message may be ahead of its equal; 0: 10 s
}

// comparing is one comparison.
type comparing struct {
	Compared
	rt     *RouteSettings
	out    io.Writer
	time   time.Duration // 0: until ctx is done
	seed   maphash.Seed
	shown  int
	delays []time.Duration
	gaps   int
	lost   int       // times that the old connection was
	hold   time.Time // until then nothing is decided: the stream was cut, and what it has missed may come yet
	away   bool      // it is cut
	where  string

	mu sync.Mutex // guards c, and what is above
	c  migrate.Comparison
}

// Compare compares the route that the first of words names, until -for has passed or ctx is done, and writes what it finds to w. The other
// words are those of [Tap]. The error wraps [ErrDifferent] where there is no parity, and [ErrCompareWords] where words are off.
func (c Compared) Compare(ctx context.Context, words []string, w io.Writer) error {
	rt, o, words, err := c.words(words)
	if err != nil {
		return err
	}
	r, req, end, err := requested(ctx, rt, partsOf(rt, c.Routes), words, c.Log)
	defer end()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCompareWords, err)
	}
	c.Wait = cmp.Or(c.Wait, compareWait)
	k := &comparing{Compared: c, rt: rt, out: w, time: o.time, seed: maphash.MakeSeed()}
	k.c.Equal, k.c.Tell = k.equal, k.differs
	k.c.Wait, k.c.Brief = patience(rt, c.Wait)
	defer upstream.CloseIdle()
	defer rt.Upstream.CloseIdle()
	rt.Upstream.LogTo(c.Log)
	both, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 2)
	var sides sync.WaitGroup
	sides.Go(func() { failed <- k.old(both, req) })           // ends with both
	sides.Go(func() { failed <- k.stream(both, r, req, rt) }) // the same
	err = k.wait(ctx, failed)
	stop()
	sides.Wait()
	if err != nil {
		return advised(err, rt, r)
	}
	return k.report()
}

// patience is for how long a message of rt may be ahead of its equal, wait at least, and how briefly one may have been there to be none that the
// other side has to have. Two pollers are up to EVERY apart.
func patience(rt *RouteSettings, least time.Duration) (wait, brief time.Duration) {
	if !rt.Upstream.Polls() || rt.Upstream.Follows() {
		return least, 0
	}
	every := rt.Upstream.Every()
	if rt.Upstream.States() {
		brief = 2*every + time.Second
	}
	return max(least, 3*every), brief
}

// words are the route, the options and the rest of the words.
func (c Compared) words(words []string) (*RouteSettings, looks, []string, error) {
	var names []string
	var rt *RouteSettings
	for _, one := range c.Routes {
		names = append(names, one.Name)
		if len(words) > 0 && one.Name == strings.ToLower(words[0]) {
			rt = one
		}
	}
	if rt == nil {
		return nil, looks{}, nil, fmt.Errorf("%w: the first must be the name of a route; there are: %s", ErrCompareWords, strings.Join(names, ", "))
	}
	o, rest, err := tapOptions(words[1:])
	if err != nil {
		return nil, o, nil, fmt.Errorf("%w: %s", ErrCompareWords, strings.TrimPrefix(err.Error(), ErrWords.Error()+": "))
	}
	if o.raw || o.most > 0 {
		return nil, o, nil, fmt.Errorf("%w: compare takes -for T alone, such as -for 5m", ErrCompareWords)
	}
	return rt, o, rest, nil
}

// wait returns when the time is over and what came has been decided, or a side has failed for good.
func (k *comparing) wait(ctx context.Context, failed <-chan error) error {
	t := time.NewTicker(compareEvery)
	defer t.Stop()
	var end <-chan time.Time
	if k.time > 0 {
		timer := time.NewTimer(k.time)
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case err := <-failed:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			k.settle(time.Now()) // what is younger may have had its equal yet
			return nil
		case <-end:
			return k.finish(ctx, t.C)
		case <-t.C:
			k.settle(time.Now())
		}
	}
}

// finish waits until what came before now has its equal, for as long as that may take.
func (k *comparing) finish(ctx context.Context, tick <-chan time.Time) error {
	now := time.Now()
	k.mu.Lock()
	k.c.Until = now
	k.mu.Unlock()
	for ctx.Err() == nil {
		k.mu.Lock()
		open, over := k.c.Open(), time.Since(now) > k.c.Patience()+compareEvery && !time.Now().Before(k.hold)
		k.mu.Unlock()
		if !open || over {
			break
		}
		select {
		case <-tick:
			k.settle(time.Now())
		case <-ctx.Done():
		}
	}
	k.cut(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c.Settle(time.Now())
	return nil
}

func (k *comparing) settle(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.holds(now) {
		k.c.Settle(now)
	}
}

// holds reports whether nothing is to be decided now. mu is held.
func (k *comparing) holds(now time.Time) bool { return k.away || now.Before(k.hold) }

// cut notes that the stream was cut, or is there again: what it has missed comes late then, and is no difference.
func (k *comparing) cut(away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away && !away {
		k.hold = time.Now().Add(k.c.Patience())
	}
	k.away = away
}

// add takes a message of one side, in the terms of a stream.
func (k *comparing) add(isNew bool, name string, data []byte, at time.Time) {
	data = migrate.Canonical(data)
	it := migrate.Item{Name: name, Hash: migrate.Hash(k.seed, name, data), At: at, Text: string(data[:min(len(data), comparedText)])}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c.Add(isNew, it)
}

func (k *comparing) there(isNew bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c.There(isNew, time.Now())
}

func (k *comparing) lose(isNew bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c.Away(isNew)
	if !isNew {
		k.lost++
	}
}

// old is the old connection, until ctx is done. It fails when the service refuses it.
func (k *comparing) old(ctx context.Context, req upstream.Request) error {
	source := req.Source(k.Log.With("side", "old"))
	for ctx.Err() == nil {
		conn, err := source.Connect(ctx)
		if err == nil {
			k.there(false)
			err = conn.Run(ctx, k.emitted)
			if ctx.Err() == nil {
				k.lose(false)
			}
		}
		var refused *translate.Refused
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, translate.ErrFinished):
			return nil
		case errors.As(err, &refused):
			return fmt.Errorf("the old connection: %w", err)
		}
		k.Log.Warn("the old connection is interrupted", "err", req.Shown(err))
		pause(ctx, time.Second)
	}
	return nil
}

// emitted takes what the old connection's source has made.
func (k *comparing) emitted(ms []translate.Message) error {
	now := time.Now()
	for _, m := range ms {
		if m.Gap != "" {
			k.lose(false)
			k.there(false)
			continue
		}
		if name, data, ok := asTold(m); ok {
			k.add(false, name, data, now)
		}
	}
	return nil
}

// stream is the route's stream, until ctx is done: that of the sidecar that runs, or one that is run here.
func (k *comparing) stream(ctx context.Context, r request, req upstream.Request, rt *RouteSettings) error {
	reader := &eventReader{comparing: k}
	found, err := k.Sidecar.follow(ctx, rt, r, reader)
	if found || err != nil || ctx.Err() != nil {
		return err
	}
	k.Log.Info("no sidecar answers at SSE_LISTEN; the stream is run here")
	k.where = "run here"
	streams := stream.NewStreams(settings(rt, k.Log.With("side", "stream")))
	defer streams.Close()
	seat, err := streams.Join(ctx, req)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer seat.Leave()
	k.there(true)
	return tapRing(ctx, seat.Ring, seat.Start(), reader)
}

func (k *comparing) equal(o, n *migrate.Item) {
	if len(k.delays) < comparedDelay {
		k.delays = append(k.delays, n.At.Sub(o.At))
	}
}

// differs shows a difference.
func (k *comparing) differs(d migrate.Difference) {
	if k.shown++; k.shown > differences {
		return
	}
	it := d.Old
	if it == nil {
		it = d.New
	}
	name := it.Name
	if name == "" {
		name = "message"
	}
	what := oneLine([]byte(it.Text), false)
	if len(what) > 200 {
		what = strings.ToValidUTF8(what[:200], "") + "…"
	}
	if d.Result == migrate.Changed {
		what = migrate.FirstDifference([]byte(d.Old.Text), []byte(d.New.Text))
	}
	fmt.Fprintf(k.out, "%s %-9s %s: %s\n", it.At.Format("15:04:05.000"), d.Result, name, what)
}

// report writes what was found. The error is ErrDifferent unless there is parity.
func (k *comparing) report() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	counts, differ := k.c.Counts(), int64(0)
	fmt.Fprintf(k.out, "%s: the old connection %s, the stream %s\n", k.rt.Name, k.rt.Upstream.From(), k.where)
	meanings := map[string]string{migrate.Equal: "on both", migrate.Missing: "on the old connection only", migrate.Extra: "on the stream only",
		migrate.Changed: "not the same on both", migrate.Reordered: "in another order"}
	for _, result := range migrate.Results {
		fmt.Fprintf(k.out, "  %-10s %8d  %s\n", result, counts[result], meanings[result])
		if result != migrate.Equal {
			differ += counts[result]
		}
	}
	for _, more := range []struct {
		n    int64
		text string
	}{{k.c.Passed(), "states that one side had for less than two polls: not compared"}, {k.c.Lost(), "messages that too many others waited for: not compared"},
		{int64(k.gaps), "gaps that the stream has told"}, {int64(k.lost), "interruptions of the old connection: what came meanwhile was not compared"}} {
		if more.n > 0 {
			fmt.Fprintf(k.out, "  %-10s %8d  %s\n", "", more.n, more.text)
		}
	}
	if n := len(k.delays); n > 0 {
		slices.Sort(k.delays)
		fmt.Fprintf(k.out, "  delay      p50 %v, p99 %v, of the stream after the old connection\n", k.delays[n/2].Round(10*time.Microsecond), k.delays[n*99/100].Round(10*time.Microsecond))
	}
	switch {
	case differ > 0:
		return fmt.Errorf("%w: %s", ErrDifferent, many(int(differ), "difference"))
	case k.gaps > 0:
		return fmt.Errorf("%w: the stream had %s", ErrDifferent, many(k.gaps, "gap"))
	case k.c.Lost() > 0:
		return fmt.Errorf("%w: not all was compared", ErrDifferent)
	case counts[migrate.Equal] == 0:
		return fmt.Errorf("%w: nothing came on both, so that nothing is proved; wait for longer (-for 5m), or see with tap -raw what arrives", ErrDifferent)
	}
	fmt.Fprintln(k.out, "parity")
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
