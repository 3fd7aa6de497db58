package proxy

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateAge is how long the files are taken for unchanged without looking.
const certificateAge = time.Second

// Certificate serves a key pair from two files and reads it again when they change. A pair that cannot be read leaves
// the old one in place.
type Certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex // guards what follows
	pair    *tls.Certificate
	stamp   [2]time.Time // when the files were changed
	checked time.Time
}

// NewCertificate reads the key pair; no files, "" and "", are no certificate, nil. It fails when the pair cannot be read or does not match.
func NewCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	if cert == "" {
		return nil, nil
	}
	c := &Certificate{cert: cert, key: key, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Get is for [tls.Config].GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < certificateAge {
		return c.pair, nil
	}
	c.checked = time.Now()
	if stamp, err := c.stat(); err == nil && stamp != c.stamp {
		if err := c.load(); err != nil {
			c.log.Error("certificate not reloaded", "err", err)
		} else {
			c.log.Info("certificate reloaded")
		}
	}
	return c.pair, nil
}

func (c *Certificate) load() error {
	stamp, err := c.stat()
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	c.pair, c.stamp = &pair, stamp
	return nil
}

func (c *Certificate) stat() (stamp [2]time.Time, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return stamp, err
		}
		stamp[i] = info.ModTime()
	}
	return stamp, nil
}
