package legacy

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxReaders bounds what one page can ask for.
const maxReaders = 50

// Readers are what the demo shows beside the service, which knows nothing of Server-Sent Events: clients of the sidecar, as many as tabs
// would be. A browser itself opens six connections to a host over HTTP/1.1. Its methods may be called from any goroutine.
type Readers struct {
	Service *Service // whose upstream connections are counted

	mu     sync.Mutex // guards what follows
	prices string     // where the sidecar has the feed
	status string     // where it tells its state; "" nowhere
	stop   []context.CancelFunc
	gone   sync.WaitGroup
	ended  bool

	heard sync.Mutex // guards total
	total int        // events that all of them have got
}

// Front tells where the sidecar's prices are, and its status, "" for nowhere. Until then there are no readers.
func (r *Readers) Front(prices, status string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prices, r.status = prices, status
}

// Handler serves next, and under /demo/readers how many there are; a POST with {"readers":N} makes it so many.
func (r *Readers) Handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc("GET /demo/readers", r.show)
	mux.HandleFunc("POST /demo/readers", func(w http.ResponseWriter, req *http.Request) {
		var want struct{ Readers int }
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 100)).Decode(&want); err != nil || want.Readers < 0 || want.Readers > maxReaders {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": `want {"readers":N}, at most 50`})
			return
		}
		r.set(want.Readers)
		r.show(w, req)
	})
	return mux
}

// crowd is the body of GET /demo/readers.
type crowd struct {
	Readers  int    `json:"readers"`
	Events   int    `json:"events"`   // that they have got, all together
	Upstream int    `json:"upstream"` // connections of the sidecar's own to the feed
	Old      int    `json:"old"`      // those of old clients, passed through
	Status   string `json:"status,omitempty"`
}

func (r *Readers) show(w http.ResponseWriter, _ *http.Request) {
	r.heard.Lock()
	c := crowd{Events: r.total}
	r.heard.Unlock()
	r.mu.Lock()
	c.Readers, c.Status = len(r.stop), r.status
	r.mu.Unlock()
	c.Upstream, c.Old = r.Service.connections()
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, c)
}

// set starts or stops readers until there are n.
func (r *Readers) set(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.stop) > n {
		r.stop[len(r.stop)-1]()
		r.stop = r.stop[:len(r.stop)-1]
	}
	for len(r.stop) < n && !r.ended && r.prices != "" {
		ctx, stop := context.WithCancel(context.Background())
		r.stop = append(r.stop, stop)
		prices := r.prices
		r.gone.Go(func() { r.read(ctx, prices) }) // ends with stop
	}
}

// Close stops all readers, and waits for them.
func (r *Readers) Close() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.set(0)
	r.gone.Wait()
}

// read is one reader, which comes back after a second like any other.
func (r *Readers) read(ctx context.Context, prices string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		r.follow(ctx, client, prices)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (r *Readers) follow(ctx context.Context, client *http.Client, prices string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prices, nil)
	if err != nil {
		return
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			r.heard.Lock()
			r.total++
			r.heard.Unlock()
		}
	}
}

// connections counts the open feeds: the sidecar's own, and those of others.
func (s *Service) connections() (sidecar, others int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.feeds {
		if f.sidecar {
			sidecar++
		} else {
			others++
		}
	}
	return sidecar, others
}
