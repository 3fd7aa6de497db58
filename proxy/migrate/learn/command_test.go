package learn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/migrate"
	"sidestream/proxy/migrate/learn"
)

// serves is a pass-through through which one feed passes.
func serves(ctx context.Context, upstream string, watching func(*learn.Learner, string, http.RoundTripper)) error {
	l := learn.New(base, "")
	watching(l, "http://127.0.0.1:8080 for "+upstream, http.DefaultTransport)
	h := l.Upgraded(get("/ws"), nil)
	h.Hear(migrate.Message{At: time.Now(), FromClient: true, Data: []byte(`{"op":"sub"}`)})
	h.Hear(migrate.Message{At: time.Now(), Data: []byte(`{"op":"tick"}`)})
	<-ctx.Done()
	h.Closed(1006) // since the pass-through ends
	return nil
}

// TestCommand watches until it is told to end, or for a while.
func TestCommand(t *testing.T) {
	for _, out := range []string{"", filepath.Join(t.TempDir(), "learned.env")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			words := []string{"localhost:3000"}
			if out != "" {
				words = []string{"-o", out, "-for", "5m", "http://localhost:3000"}
			} else {
				time.AfterFunc(time.Hour, cancel) // Ctrl-C
			}
			defer cancel()
			start := time.Now()
			var stdout, stderr strings.Builder
			if err := learn.Command(ctx, words, &stdout, &stderr, serves); err != nil {
				t.Fatal(err)
			}
			env, table := stdout.String(), stderr.String()
			if want := time.Hour; out == "" && time.Since(start) != want || out != "" && time.Since(start) != 5*time.Minute {
				t.Errorf("it has watched for %v", time.Since(start))
			}
			if out != "" {
				text, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				env, table = string(text), stdout.String()
			}
			load(t, env)
			if !strings.Contains(env, `HELLO='`) || strings.Contains(env, "1006") || !strings.Contains(table, "/events/ws") || !strings.Contains(stderr.String(), "http://127.0.0.1:8080 for http://localhost:3000") {
				t.Errorf("env file:\n%s\ntable:\n%s\n%s", env, table, stderr.String())
			}
		})
	}
}

// TestCommandWords checks what is wrong with them.
func TestCommandWords(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.env")
	har := filepath.Join(dir, "x.har")
	for _, file := range []string{there, har} {
		if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for want, words := range map[string][]string{
		"got 0":                  {},
		"got 2":                  {"a", "b"},
		"not defined":            {"-x", "a"},
		"less than nothing":      {"-for", "-1s", "a"},
		"is not overwritten":     {"-o", there, "http://localhost:3000"},
		"need a service":         {"-probe", har},
		"this is no HAR file":    {har},
		"no such file":           {filepath.Join(dir, "none.har")},
		"no service can be here": {"http://localhost:3000"},
	} {
		var out strings.Builder
		err := learn.Command(t.Context(), words, &out, &out, func(context.Context, string, func(*learn.Learner, string, http.RoundTripper)) error {
			return errors.New("no service can be here")
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", words, err, want)
		}
	}
	if text, err := os.ReadFile(there); err != nil || string(text) != "mine" {
		t.Errorf("the file was overwritten: %q, %v", text, err)
	}
}

// TestCommandHAR reads a file.
func TestCommandHAR(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recorded.har")
	if err := os.WriteFile(file, fmt.Appendf(nil, chromium, ""), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	if err := learn.Command(t.Context(), []string{file}, &stdout, &stderr, nil); err != nil {
		t.Fatal(err)
	}
	load(t, stdout.String())
	if !strings.Contains(stdout.String(), "_FROM=ws://localhost:3000/ws\n") || !strings.Contains(stderr.String(), "ws") {
		t.Error(stdout.String(), stderr.String())
	}
}
