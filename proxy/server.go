package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net/http"
	"time"

	"sidestream/proxy/deliver"
)

// NewServer returns the public server of h: HTTP/1.1, and HTTP/2 over TLS or, without a certificate, in clear.
func NewServer(h http.Handler, certificate *Certificate, logger *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:     h,
		ConnContext: deliver.WithConn,
		// Bodies and answers may last for ever; a request's head may not.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
		ErrorLog:          log.New(debugLog{logger}, "", 0),

		DisableGeneralOptionsHandler: true, // `OPTIONS *` is passed through like everything else
	}
	s.Protocols.SetHTTP1(true)
	if certificate == nil {
		s.Protocols.SetUnencryptedHTTP2(true)
		return s
	}
	s.Protocols.SetHTTP2(true)
	s.TLSConfig = &tls.Config{GetCertificate: certificate.Get, MinVersion: tls.VersionTLS12}
	return s
}

// debugLog takes net/http's complaints about its clients, which nobody needs at night, and its word that a handler
// panicked, which somebody does.
type debugLog struct{ log *slog.Logger }

func (d debugLog) Write(p []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(p, []byte("http: panic")) || bytes.HasPrefix(p, []byte("http2: panic")) {
		level = slog.LevelError
	}
	d.log.Log(context.Background(), level, "http server", "err", string(p))
	return len(p), nil
}
