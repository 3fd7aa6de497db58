package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/deliver"
)

// Path is the page's; what is asked of the probe is below it.
const Path = "/_sidestream/doctor"

// What one probe gives. The command, and the page, need some 60 requests, at most 16 at once.
const (
	atOnce     = 64  // requests, all askers together
	perAddress = 24  // of these, of one address
	burst      = 300 // requests that may come at once after a rest...
	perSecond  = 10  // ...which is over at this rate
	uploads    = 4   // of the requests at once, those with a body

	// MaxBody is how many bytes a POST may have.
	MaxBody = 4 << 20

	// MaxSilence bounds how long a stream may be asked to say nothing.
	MaxSilence = 5 * time.Minute

	uploadTime = 30 * time.Second // a POST, and a WebSocket
)

// InstanceHeader is in every answer: a random name of the process, by which replicas are told apart.
const InstanceHeader = "Sidestream-Instance"

// Probe answers what is below Path. Make one with New. Any number of goroutines may use it.
type Probe struct {
	// Shared says that replicas share their streams, so that it is no matter which one a client meets.
	Shared bool

	instance string
	stopped  context.Context
	stop     context.CancelFunc

	mu      sync.Mutex // guards what follows
	now     int
	sending int
	from    map[netip.Prefix]int
	spent   float64 // requests of the burst
	at      time.Time
}

// New returns a probe that answers.
func New(shared bool) *Probe {
	name := make([]byte, 4)
	rand.Read(name) // never fails
	p := &Probe{Shared: shared, instance: hex.EncodeToString(name), from: map[netip.Prefix]int{}}
	p.stopped, p.stop = context.WithCancel(context.Background())
	return p
}

// Stop ends all that is being answered, and refuses what comes from then on: the sidecar is stopping.
func (p *Probe) Stop() { p.stop() }

// answers are what may be asked, by the rest of the path: the method, and the answer.
var answers = map[string]struct {
	method string
	answer func(*Probe, http.ResponseWriter, *http.Request) deliver.Rest
}{
	"/request": {http.MethodGet, (*Probe).request},
	"/stream":  {http.MethodGet, (*Probe).stream},
	"/poll":    {http.MethodGet, (*Probe).poll},
	"/ws":      {http.MethodGet, (*Probe).webSocket},
	"/post":    {http.MethodPost, (*Probe).post},
}

// Has reports whether a path is the probe's.
func Has(path string) bool {
	rest, below := strings.CutPrefix(path, Path)
	_, known := answers[rest]
	return below && known
}

// Answer answers a request for a path that Has knows. from is the asker's network, zero where it is not known.
func (p *Probe) Answer(w http.ResponseWriter, r *http.Request, from netip.Prefix) deliver.Rest {
	w.Header().Set(InstanceHeader, p.instance)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	asked := answers[strings.TrimPrefix(r.URL.Path, Path)]
	switch {
	case r.Method != asked.method:
		w.Header().Set("Allow", asked.method)
		return refuse(w, http.StatusMethodNotAllowed, "use "+asked.method)
	case foreign(r):
		return refuse(w, http.StatusForbidden, "the probe answers pages of its own origin")
	case p.stopped.Err() != nil:
		return refuse(w, http.StatusServiceUnavailable, "the sidecar is stopping")
	}
	leave, ok := p.enter(from, asked.method == http.MethodPost)
	if !ok {
		w.Header().Set("Retry-After", "10")
		return refuse(w, http.StatusTooManyRequests, "the probe is busy; try again in 10 s")
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.stopped, cancel)()
	return asked.answer(p, w, r.WithContext(ctx))
}

// foreign reports whether a page of another origin has made a browser ask.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// enter takes a request's place. ok is false where there is none.
func (p *Probe) enter(network netip.Prefix, upload bool) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.spent, p.at = max(0, p.spent-now.Sub(p.at).Seconds()*perSecond), now
	if p.now >= atOnce || p.from[network] >= perAddress || p.spent+1 > burst || upload && p.sending >= uploads {
		return nil, false
	}
	p.spent++
	p.count(network, upload, 1)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.count(network, upload, -1)
	}, true
}

// count counts a request that comes or goes. mu is held.
func (p *Probe) count(network netip.Prefix, upload bool, n int) {
	p.now += n
	if p.from[network] += n; p.from[network] == 0 {
		delete(p.from, network)
	}
	if upload {
		p.sending += n
	}
}

// Refusal is the body of an answer that is none.
type Refusal struct {
	Sidestream bool   `json:"sidestream"` // true: it is the probe's own
	Refused    string `json:"refused"`
}

func refuse(w http.ResponseWriter, status int, text string) deliver.Rest {
	return say(w, status, Refusal{true, text})
}

func say(w http.ResponseWriter, status int, what any) deliver.Rest {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(what) // an asker that has gone is no error
	return deliver.Answered
}
