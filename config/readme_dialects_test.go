package config

import (
	"os"
	"strings"
	"testing"
)

// TestDialectExamples loads every example of the dialects' README, as it stands.
func TestDialectExamples(t *testing.T) {
	data, err := os.ReadFile("../translate/dialect/README.md")
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string) ([]byte, error) {
		if name == "/run/secrets/stomp" {
			return []byte("login:guest\npasscode:guest\n"), nil
		}
		return os.ReadFile(name)
	}
	routes := 0
	for i, block := range strings.Split(string(data), "```sh\n") {
		example, _, _ := strings.Cut(block, "```")
		if i == 0 || !strings.Contains(example, "SSE_ROUTE_") {
			continue
		}
		environ, err := Overlay(nil, []byte(example))
		if err != nil {
			t.Fatalf("%v in\n%s", err, example)
		}
		c, err := Load(environ, secret)
		if err != nil {
			t.Errorf("%v in\n%s", err, example)
			continue
		}
		routes += len(c.Routes)
	}
	if routes < 10 {
		t.Errorf("only %d routes were found", routes)
	}
}
