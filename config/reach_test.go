package config

import (
	"net"
	"path/filepath"
	"testing"
)

func TestUnreachable(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut.Close()
	for upstream, want := range map[string]string{
		"http://" + open.Addr().String(): "", "http://" + shut.Addr().String(): "connection refused", "https://no-such-name.invalid": "its name is not known",
		"http+unix://" + filepath.Join(t.TempDir(), "none.sock"): "there is no such socket",
	} {
		c, err := Load([]string{"SSE_UPSTREAM=" + upstream}, ReadFile)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Unreachable(t.Context()); got != want {
			t.Errorf("%s: %q, want %q", upstream, got, want)
		}
	}
}
