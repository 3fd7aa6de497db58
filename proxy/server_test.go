package proxy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestPanicsAreLoggedAndComplaintsAreNot(t *testing.T) {
	var out bytes.Buffer
	d := debugLog{slog.New(slog.NewTextHandler(&out, nil))}
	d.Write([]byte("http: TLS handshake error from x: EOF"))
	if out.Len() > 0 {
		t.Errorf("logged %q", out.String())
	}
	d.Write([]byte("http: panic serving x: boom"))
	if !strings.Contains(out.String(), "boom") {
		t.Error("a panic is not logged")
	}
}
