// This file keeps up with keys that change: a set that is fetched, and files. The rules:
//
//   - A token with a kid that is not in the set has it fetched again, at once: a rotated key works as soon as its issuer publishes it.
//   - A fetch that did not bring the kid it was made for is followed by none for 30 s on account of unknown kids: whoever makes them up
//     cannot make us hammer the issuer. One that brought it costs nothing.
//   - A set that is in use is fetched again after a minute, in the background, so that keys that were taken out do not live on.
//   - While the issuer does not answer the keys that there are stay in use. A token that they do not fit is neither admitted nor denied.

package access

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	fetchPause = 30 * time.Second // between fetches for kids that turn out to be unknown
	fetchAgain = time.Minute      // after which a set in use is fetched again
	fetchFirst = 5 * time.Second  // between attempts to get the first set
	setMost    = 1 << 20          // bytes of a set
	lookAgain  = time.Second      // how long files are taken for unchanged without looking
)

// fetcher fetches a set of keys.
type fetcher struct {
	keys   *keys
	client *http.Client
	url    string

	mu      sync.Mutex // guards what follows
	flight  chan struct{}
	began   time.Time // when the last fetch was begun
	failed  bool      // it failed
	wasted  time.Time // when the last one for a kid was begun that did not bring it
	failing bool      // which was said
}

// want sees to it that the set has kid, "" for any, if it can be had. It fails with a *[Denied] or [ErrUnavailable].
func (f *fetcher) want(ctx context.Context, kid string) error {
	set := f.keys.set.Load()
	if set != nil {
		if _, known := set.with(kid, ""); known {
			f.refresh()
			return nil
		}
	}
	flight, err := f.request(set == nil)
	if err != nil {
		return err
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return ErrUnavailable
	}
	return f.brought(kid)
}

// brought sees whether a fetch has brought kid.
func (f *fetcher) brought(kid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.keys.set.Load()
	if set == nil {
		return ErrUnavailable
	}
	if _, known := set.with(kid, ""); known {
		return nil
	}
	f.wasted = f.began
	if f.failed {
		return ErrUnavailable
	}
	return f.unknown()
}

// renew fetches the set for a token that names no key and fits none, if it may: it reports whether the keys are others then than those of
// generation.
func (f *fetcher) renew(ctx context.Context, generation uint64) bool {
	flight, err := f.request(false)
	if err != nil {
		return f.keys.generation() != generation
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := f.keys.generation() != generation
	if !changed {
		f.wasted = f.began
	}
	return changed
}

func (f *fetcher) unknown() error {
	return &Denied{http.StatusUnauthorized, "no key of JWT_KEYS has the token's kid"}
}

// request returns the fetch that is under way, or begins one if it may.
func (f *fetcher) request(first bool) (<-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flight != nil {
		return f.flight, nil
	}
	switch now := time.Now(); {
	case first && now.Sub(f.began) < fetchFirst:
		return nil, ErrUnavailable
	case !first && now.Sub(f.wasted) < fetchPause && f.failed:
		return nil, ErrUnavailable
	case !first && now.Sub(f.wasted) < fetchPause:
		return nil, f.unknown()
	}
	return f.begin()
}

// refresh begins a fetch where the set is old, for which no client waits.
func (f *fetcher) refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flight == nil && time.Since(f.began) >= fetchAgain {
		f.begin()
	}
}

// begin begins a fetch. mu is held.
func (f *fetcher) begin() (<-chan struct{}, error) {
	flight := make(chan struct{})
	f.flight, f.began = flight, time.Now()
	if !f.keys.guard.start(func() { f.fly(flight) }) { // ends with the answer, or the guard
		f.flight = nil
		return nil, ErrUnavailable
	}
	return flight, nil
}

// fly fetches the set.
func (f *fetcher) fly(flight chan struct{}) {
	all, err := f.get()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !f.keys.has(all) {
		f.keys.replace(all)
	}
	f.failed = err != nil
	f.say(err)
	f.flight = nil
	close(flight)
}

// has reports whether the keys are these already.
func (ks *keys) has(all []verifier) bool {
	set := ks.set.Load()
	return set != nil && slices.EqualFunc(set.all, all, func(a, b verifier) bool {
		key, ok := a.key.(interface{ Equal(crypto.PublicKey) bool })
		return ok && a.kid == b.kid && slices.Equal(a.algorithms, b.algorithms) && key.Equal(b.key)
	})
}

// get asks for the set.
func (f *fetcher) get() ([]verifier, error) {
	f.keys.guard.Stats.Fetches.Add(1)
	ctx, cancel := context.WithTimeout(f.keys.guard.alive, questionTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, errors.New("JWT_KEYS is not an address")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "sidestream")
	resp, err := f.client.Do(r)
	if err != nil {
		return nil, f.keys.guard.kind(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer has the status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, setMost+1))
	switch {
	case err != nil:
		return nil, f.keys.guard.kind(err)
	case len(text) > setMost:
		return nil, errors.New("the answer is larger than 1 MiB")
	}
	return parseSet(text)
}

// kind is err as it may be shown.
func (g *Guard) kind(err error) error {
	if g.Kind == nil {
		return errors.New("the request failed")
	}
	return g.Kind(err)
}

// say logs that the set cannot be had, once, and that it can again. mu is held.
func (f *fetcher) say(err error) {
	g := f.keys.guard
	switch {
	case g.alive.Err() != nil:
	case err != nil && !f.failing:
		g.log.Warn("the keys of JWT_KEYS cannot be fetched; those that there are stay in use", "err", err)
	case err == nil && f.failing:
		g.log.Info("the keys of JWT_KEYS can be fetched again")
	}
	f.failing = err != nil
}

// rereader looks whether the files that keys stand in have changed.
type rereader struct {
	keys *keys

	mu     sync.Mutex // guards what follows
	looked time.Time
	said   string // the last problem, so that it is said once
}

// look looks, at most once a second.
func (r *rereader) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < lookAgain {
		return
	}
	r.looked = time.Now()
	changed, err := r.keys.guard.Keys.Reread()
	var all []verifier
	if err == nil && changed != nil {
		all, err = changed.verifiers()
	}
	switch {
	case err != nil && err.Error() != r.said:
		r.said = err.Error()
		r.keys.guard.log.Warn("JWT_KEYS cannot be reread; the previous keys stay in use", "err", err)
	case err == nil && changed != nil:
		r.said = ""
		r.keys.replace(all)
		r.keys.guard.log.Info("the file of JWT_KEYS has changed; the new keys are in use")
	}
}
