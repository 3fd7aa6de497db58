package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Directory is who is where. Safe for concurrent use.
type Directory interface {
	// Replica is this one's id: see [NewID].
	Replica() string
	// Address is where a replica is asked, a URL with scheme and host, "" when there is no such replica, or none any more. The error means
	// that it is not known. What it answers is used for some seconds, and after that where it has nothing better to say: no two processes
	// have the same id, so an address that was true leads to that replica, or to none.
	Address(ctx context.Context, replica string) (url string, err error)
}

// idSize is how many characters an id has.
const idSize = 10

const idCharacters = "abcdefghijklmnopqrstuvwxyz234567"

// NewID returns an id for this process, chosen at random: ten characters of a-z and 2-7, so that it is safe in a URL and a key.
func NewID() string {
	b := make([]byte, 7)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))[:idSize]
}

// ValidID reports whether id looks like one of NewID's.
func ValidID(id string) bool { return len(id) == idSize && strings.Trim(id, idCharacters) == "" }

// Settings are what a replica tells and asks others by.
type Settings struct {
	URL     string   // of this replica, for others: http:// or https://, and host
	Listen  string   // host:port that others are answered on
	Secrets []string // shared by all; each has at least MinSecret bytes. The first signs, all are good
}

// Terms are what the proxy adds to Settings.
type Terms struct {
	MaxHead int // bytes of a client's head
	MaxBody int // bytes of its body; see Peers.Allow
	Log     *slog.Logger
	// Dial connects to a replica; nil: over TCP. Roots are who may sign the certificates of those that are asked over TLS; nil: the system's.
	// Both are for tests, and may be set until the first one is asked.
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool
}

// Stats counts. Each is a total since the start.
type Stats struct {
	Forwarded [kinds]atomic.Int64   // requests that another replica has answered
	Served    [kinds]atomic.Int64   // requests that were answered for another replica
	Failed    [reasons]atomic.Int64 // requests that no other replica has answered, by why
	Refused   [refusals]atomic.Int64
}

// Peers is the other replicas. It starts nothing. Close it once nothing is asked any more. Safe for concurrent use.
type Peers struct {
	Settings
	Terms
	Directory
	Stats Stats

	room      room
	body      atomic.Int64 // bytes of a client's body
	asked     atomic.Int64
	transport *http.Transport
	seen      seen
	denied    atomic.Bool // the last one asked did not have the secret; logged once

	mu    sync.Mutex // guards what follows
	known map[string]*entry
}

// entry is what is known of another replica.
type entry struct {
	url   string        // the last address that was known; "" none
	gone  bool          // the directory has no address any more
	until time.Time     // the directory need not be asked
	ahead time.Duration // so far its clock is ahead of ours
}

const (
	addressTime = 5 * time.Second // an address is used without asking again
	nobodyTime  = time.Second     // the same for there being none
	maxKnown    = 1024            // entries that are kept at once
	lookTime    = time.Second     // for the directory to answer
	dialTime    = time.Second     // for a connection, with TLS
)

// New returns the peers of d. Nothing is asked of or answered to any before it is.
func New(s Settings, t Terms, d Directory) *Peers {
	p := &Peers{Settings: s, Terms: t, Directory: d, known: map[string]*entry{}}
	p.Allow(t.MaxBody)
	p.transport = p.newTransport()
	return p
}

// Allow changes how many bytes of a client's body there may be.
func (p *Peers) Allow(body int) {
	p.body.Store(int64(body))
	p.room.max.Store(max(leastRoom, spareRoom*p.maxQuestion()))
}

// maxQuestion is how many bytes the body of a request to a peer has at most. The bound of a head is about what it is written as.
func (p *Peers) maxQuestion() int64 { return int64(maxPreface+2*p.MaxHead) + p.body.Load() }

// Close lets go of idle connections.
func (p *Peers) Close() { p.transport.CloseIdleConnections() }

// look returns what is known of replica, whose url is "" where that is nothing. It fails with the directory's error.
func (p *Peers) look(ctx context.Context, replica string) (entry, error) {
	if !ValidID(replica) {
		return entry{}, nil
	}
	now := time.Now()
	p.mu.Lock()
	var e entry
	if known := p.known[replica]; known != nil {
		e = *known
	}
	p.mu.Unlock()
	if now.Before(e.until) {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	url, err := p.Directory.Address(ctx, replica)
	switch {
	case err != nil && e.url == "":
		return entry{}, err
	case err != nil: // where it was, then
		e.until = now.Add(nobodyTime)
	case url == "":
		e.gone, e.until = true, now.Add(nobodyTime)
	default:
		e.url, e.gone, e.until = url, false, now.Add(addressTime)
	}
	p.learn(replica, func(known *entry) { known.url, known.gone, known.until = e.url, e.gone, e.until })
	return e, nil
}

// learn changes what is known of replica.
func (p *Peers) learn(replica string, change func(*entry)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.known[replica]
	if e == nil {
		if len(p.known) >= maxKnown {
			p.forget(time.Now())
		}
		e = new(entry)
		p.known[replica] = e
	}
	change(e)
}

// forget lets go of what was asked in vain, or of all where that is not enough: ids come from clients. p.mu is held.
func (p *Peers) forget(now time.Time) {
	for id, e := range p.known {
		if now.After(e.until) && e.url == "" {
			delete(p.known, id)
		}
	}
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
}

func (p *Peers) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // a connection for each stream: one that stalls holds up no other
	return &http.Transport{
		DialContext:            p.dial,
		DialTLSContext:         p.dialTLS,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        idleTime / 2, // sooner than the other side
		MaxResponseHeaderBytes: 1 << 20,      // as many cookies as an upstream may set
	}
}

// unmade is the error of a connection that could not be made.
type unmade struct{ error }

func (e unmade) Unwrap() error { return e.error }

// dial connects within dialTime. Its error is an unmade.
func (p *Peers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}).DialContext
	}
	c, err := dial(ctx, network, address)
	if err != nil {
		return nil, unmade{err}
	}
	return c, nil
}

// dialTLS is dial with the handshake.
func (p *Peers) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := p.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(address)
	secure := tls.Client(c, &tls.Config{ServerName: host, RootCAs: p.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, unmade{err}
	}
	return secure, nil
}
