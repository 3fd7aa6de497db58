// Package legacy is a small service as teams have them before they move to Server-Sent Events: a WebSocket price
// feed, a JSON endpoint that browsers poll, and a job whose progress they poll. It knows nothing of SSE. The
// end-to-end tests and the demo command put the sidecar in front of it.
package legacy

import (
	"context"
	_ "embed"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"
)

// The demo's times; a Service's fields replace them one by one.
const (
	defaultTick            = 150 * time.Millisecond
	defaultSubscribeWithin = 5 * time.Second
	defaultPingEvery       = 10 * time.Second
	defaultPongWithin      = 5 * time.Second
	defaultWeatherEvery    = 5 * time.Second
	defaultExportTakes     = 10 * time.Second
)

// Service is the legacy service. The fields are set before Handler and Run and not changed after; zero means the
// demo's value. Its methods may be called from any goroutine.
type Service struct {
	Tick            time.Duration // between two price changes; 150 ms
	SubscribeWithin time.Duration // a feed that has not subscribed by then is closed with 1008; 5 s
	PingEvery       time.Duration // between two application pings; 10 s
	PongWithin      time.Duration // a feed that has not answered a ping by then is closed with 1008; 5 s, less than PingEvery
	WeatherEvery    time.Duration // between two changes of the weather; 5 s
	ExportTakes     time.Duration // an export's whole run; 10 s

	mu       sync.Mutex // guards what follows
	market   market
	weather  weather
	exports  exports
	feeds    map[*feed]struct{}
	stopping bool
	gone     sync.WaitGroup // one for each entry of feeds
}

// New returns a service with the demo's times, whose prices stand still until Run is called.
func New() *Service {
	return &Service{market: newMarket(), weather: newWeather(time.Now()), feeds: map[*feed]struct{}{}}
}

//go:embed page.html
var page []byte

// Handler serves the page, the feed, the weather and the exports.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /demo.env", serveEnv)
	mux.HandleFunc("GET /ws", s.serveFeed)
	mux.HandleFunc("GET /api/weather", s.serveWeather)
	mux.HandleFunc("POST /export", s.startExport)
	mux.HandleFunc("GET /export/{id}", s.serveExport)
	return mux
}

// Run changes prices and weather until ctx ends. Then it closes the open feeds with 1001, waits until they are gone
// and returns; a stopped service takes no new ones. It is called once.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(or(s.Tick, defaultTick))
	defer tick.Stop()
	turn := time.NewTicker(or(s.WeatherEvery, defaultWeatherEvery))
	defer turn.Stop()
	for {
		select {
		case now := <-tick.C:
			s.trade(now)
		case now := <-turn.C:
			s.mu.Lock()
			s.weather.change(now)
			s.mu.Unlock()
		case <-ctx.Done():
			s.stop()
			return
		}
	}
}

// CutFeeds drops every open feed without a word, as a crash or a pulled cable would.
func (s *Service) CutFeeds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.feeds {
		f.end(errCut)
	}
}

func (s *Service) stop() {
	s.mu.Lock()
	s.stopping = true
	for f := range s.feeds {
		f.end(errStopping)
	}
	s.mu.Unlock()
	s.gone.Wait()
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:")
	w.Write(page)
}

// serveEnv gives the variables that put a sidecar in front of this very listener, as an -env-file.
func serveEnv(w http.ResponseWriter, r *http.Request) {
	addr := r.Host
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		addr = local.String() // behind the sidecar, Host is the sidecar's own
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write([]byte(envFile(Env(addr))))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func or(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
