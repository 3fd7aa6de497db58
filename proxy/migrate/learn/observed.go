package learn

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of what is kept, whatever passes through.
const (
	maxBytes         = 16 << 20 // of frames and bodies, together
	maxPaths         = 256      // shapes of paths
	maxConversations = 16       // of one shape of path
	maxFrames        = 512      // of one conversation
	maxFrame         = 16 << 10 // bytes of one frame
	maxFirst         = 100      // frames of a service that are kept whatever they are; of the others those beside a client's
	maxAnswers       = 24       // of one client to one poll
	maxClients       = 4        // of one poll
	maxBody          = 256 << 10
	maxPairs         = 64      // cookies or query values of a request
	maxValue         = 8 << 10 // bytes of one of them
	maxPath          = 2 << 10 // bytes of a path

	mostMessages  = 20 << 10        // of one conversation, after which nothing more of it is heard
	leastMessages = 2 << 10         // likewise, once it has lasted for...
	mostInflated  = 1000            // likewise, of the service's, where they are compressed, in the first conversation of a path...
	leastInflated = 64              // ...and in all others
	longEnough    = 3 * time.Minute // ...so long, which is several pings
)

// Pair is a name and its value.
type Pair struct{ Name, Value string }

// Request is what a client asked with. Its values may be secret.
type Request struct {
	At      time.Time
	Base    string // scheme, host and port of the service, http or https; "": that of the observation
	Client  string // tells clients apart; shown nowhere
	Path    string // with its escapes
	Query   []Pair
	Cookies []Pair
	Header  http.Header // of those in keptHeaders, and what begins with X-
}

// Frame is one WebSocket message.
type Frame struct {
	At         time.Time
	FromClient bool
	Binary     bool
	Cut        bool // it was larger than is kept; Data is empty
	Data       []byte
}

// Conversation is one WebSocket.
type Conversation struct {
	Request
	Subprotocol string // that the service has chosen
	Compressed  bool   // permessage-deflate
	Frames      []Frame
	Sent        int // messages of the client, kept or not
	Received    int // messages of the service
	Over        bool
	Code        int // of the close frame; 0: it is not over, or that is not known
}

// Answer is an answer to a request that is no WebSocket.
type Answer struct {
	Request
	Method string // "" is GET
	Sent   []byte // body of the request, where it is known
	End    time.Time
	Status int
	Data   []byte // nil: it is not known
	Size   int
	Set    []string // names of cookies that it sets for no script to read
}

// Observation is all that was seen.
type Observation struct {
	Base          *url.URL // of the service
	Socket        string   // the Unix socket that it is on; "" for none
	Conversations []*Conversation
	Answers       []*Answer
	Messages      int  // all that have passed
	Full          bool // more was there than is kept
	Notes         []string
}

// keptHeaders are the request headers that say something about a route.
var keptHeaders = []string{"Authorization", "Origin", "Sec-Websocket-Protocol", "Accept"}

// newRequest is what is kept of r.
func newRequest(r *http.Request, now time.Time) Request {
	q := Request{At: now, Path: r.URL.EscapedPath(), Query: pairs(r.URL.RawQuery)}
	for _, c := range r.Cookies() {
		if len(q.Cookies) < maxPairs && len(c.Value) <= maxValue {
			q.Cookies = append(q.Cookies, Pair{c.Name, c.Value})
		}
	}
	q.Header = kept(r.Header)
	return q
}

// kept is the part of h that is kept.
func kept(h http.Header) http.Header {
	out := http.Header{}
	for _, name := range keptHeaders {
		if v := h.Get(name); v != "" && len(v) <= maxValue {
			out.Set(name, v)
		}
	}
	for name, v := range h {
		if strings.HasPrefix(name, "X-") && !strings.HasPrefix(name, "X-Forwarded-") && name != "X-Real-Ip" && len(v) == 1 && len(v[0]) <= maxValue && len(out) < maxPairs {
			out[name] = v
		}
	}
	return out
}

// pairs are a query's values, in order.
func pairs(query string) (all []Pair) {
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || name == "" || len(all) == maxPairs {
			continue
		}
		if value, err = url.QueryUnescape(value); err == nil && len(value) <= maxValue {
			all = append(all, Pair{name, value})
		}
	}
	return all
}

// value is the value of name in all.
func value(all []Pair, name string) (string, bool) {
	for _, p := range all {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}
