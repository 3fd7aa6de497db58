package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// drainGrace is how long after the window clients are waited for that take nothing, and cannot be told to come back.
const drainGrace = 2 * time.Second

// drain has all clients come back to where the sidecar is, or another one, by then, and answers once they have left. The process goes on
// until it is stopped, which is at once then. Asking twice is asking once.
func (a Port) drain(w http.ResponseWriter, r *http.Request) {
	window := a.Proxy.StartDrain()
	late := time.NewTimer(window + drainGrace)
	defer late.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for waiting := a.Proxy.Clients() > 0; waiting; {
		select {
		case <-look.C:
			waiting = a.Proxy.Clients() > 0
		case <-late.C:
			waiting = false
		case <-r.Context().Done():
			return
		}
	}
	answerJSON(w, http.StatusOK, map[string]int64{"clients": a.Proxy.Clients()})
}

// ErrDrainWords is what the error of [Drain] wraps when it does not know its words.
var ErrDrainWords = errors.New("drain takes no arguments")

// Drain is the command: it asks the sidecar at the addresses to drain, and returns when its clients have left. addresses is asked for
// nothing but where the sidecar listens, token for what its admin port wants to be told, if it does. It fails when no sidecar answers.
func Drain(ctx context.Context, words []string, addresses func() (public, operator string, err error), token func() string) error {
	if len(words) > 0 {
		return fmt.Errorf("%w, got %q", ErrDrainWords, words[0])
	}
	_, operator, err := addresses()
	switch {
	case err != nil:
		return err
	case operator == "":
		return errors.New("drain: SSE_ADMIN_LISTEN is off, so no sidecar can be asked; send it SIGTERM, which drains too")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, URL(operator)+"/api/drain", nil)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if secret := token(); secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // by no forward proxy
	if err != nil {
		return fmt.Errorf("drain: no sidecar answers at its admin port: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("drain: the admin port answered %d; is it a sidecar's that knows drain?", resp.StatusCode)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("drain: the sidecar ended before its clients had left: %w", err)
	}
	return nil
}
