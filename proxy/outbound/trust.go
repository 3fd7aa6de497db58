package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lookAgain is how long files are taken for unchanged without looking.
const lookAgain = time.Second

// Trust is what the servers of one route, or of pass-through, are verified by and shown. It keeps up with its files: they are looked at before each
// request, at most once a second. Files that cannot be used leave the previous keys in place. Safe for concurrent use.
type Trust struct {
	name, host string
	reread     func() (*Keys, error)
	keys       atomic.Pointer[Keys]

	mu     sync.Mutex // guards what follows
	log    *slog.Logger
	looked time.Time
	said   string // the last problem, so that it is said once
	old    *Keys  // of which it was said that they are not valid
}

// NewTrust returns one for servers on host, in lower case, whose certificates have to be for name; name "": for the host dialled, as those of any
// other host. reread returns the keys when their files have changed since it was called last, else nil; it is not called by two at once. Nil: they
// stay as they are.
func NewTrust(keys Keys, host, name string, reread func() (*Keys, error)) *Trust {
	t := &Trust{name: name, host: host, reread: reread, looked: time.Now()}
	t.keys.Store(&keys)
	return t
}

// Keys are those in use now.
func (t *Trust) Keys() *Keys { return t.keys.Load() }

// Name is what the certificate of its host has to be for; "": that host.
func (t *Trust) Name() string { return t.name }

// LogTo has log told when keys change or cannot be reread, and when they are not valid, which it looks for at once.
func (t *Trust) LogTo(log *slog.Logger) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = log
	t.age()
}

// current is the keys in use, after a look at the files; nil without a Trust.
func (t *Trust) current() *Keys {
	if t == nil {
		return nil
	}
	t.look()
	return t.keys.Load()
}

func (t *Trust) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) < lookAgain {
		return
	}
	t.looked = time.Now()
	defer t.age()
	if t.reread == nil {
		return
	}
	changed, err := t.reread()
	switch {
	case err != nil:
		if t.said != err.Error() {
			t.warn("certificates cannot be reread; the previous ones stay in use", "err", err)
		}
		t.said = err.Error()
	case changed != nil:
		t.said = ""
		if same(changed, t.keys.Load()) {
			return
		}
		t.keys.Store(changed)
		if t.log != nil {
			t.log.Info("certificates have changed; the new ones are in use for new connections")
		}
	}
}

// age warns of keys that are not valid now, once. mu is held.
func (t *Trust) age() {
	keys := t.keys.Load()
	if t.old == keys || t.log == nil {
		return
	}
	for _, problem := range keys.Problems(time.Now()) {
		t.old = keys
		t.warn(problem)
	}
}

func (t *Trust) warn(text string, args ...any) {
	if t.log != nil {
		t.log.Warn(text, args...)
	}
}

// Problems are what is wrong with the keys at a time, though they can be used: certificates that have expired.
func (k *Keys) Problems(now time.Time) (all []string) {
	if k.Client != nil && k.Client.Leaf != nil {
		if validity(k.Client.Leaf, now) != "" {
			all = append(all, "the client certificate of UPSTREAM_CERT will be refused: "+Describe(k.Client.Leaf, now))
		}
	}
	for _, root := range k.Roots {
		if validity(root, now) != "" {
			all = append(all, "an authority of UPSTREAM_CA counts for nothing: "+Describe(root, now))
		}
	}
	return all
}

// config is what TLS with a server on the host of that name needs.
func (t *Trust) config(keys *Keys, hostname string, protocols []string) *tls.Config {
	c := &tls.Config{ServerName: hostname, MinVersion: tls.VersionTLS12, NextProtos: protocols}
	if t == nil || keys == nil {
		return c
	}
	if t.name != "" && strings.EqualFold(hostname, t.host) {
		c.ServerName = t.name
	}
	if len(keys.Roots) > 0 {
		c.RootCAs = x509.NewCertPool()
		for _, root := range keys.Roots {
			c.RootCAs.AddCert(root)
		}
	}
	if keys.Client != nil {
		// Whatever authorities the server names: some name none that signed, and to say nothing would hide why it refuses.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return keys.Client, nil }
	}
	return c
}
