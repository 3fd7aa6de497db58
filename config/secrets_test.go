package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSecretNames(t *testing.T) {
	for variable, want := range map[string]string{
		"SSE_SECRET_OKX": "okx", "SSE_SECRET_A_1": "a_1", "SSE_SECRET_": "", "SSE_SECRET_1A": "", "SSE_SECRET_okx": "", "SSE_SECRET_A-B": "", "SSE_SECRET_OKX_FILE": "",
		"SSE_ROUTE_A_SECRET_B": "",
	} {
		if n, known := parseName(variable); known != (want != "") || n.secret() != want {
			t.Errorf("%s: %v %q", variable, known, n.secret())
		}
	}
	_, err := Load([]string{"SSE_SECRET_okx=x"}, ReadFile)
	if err == nil || !strings.Contains(err.Error(), "SSE_SECRET_okx: is not the name of a secret; write SSE_SECRET_ and a name of capital letters") {
		t.Error(err)
	}
}

// TestSecretsAreShownNowhere: neither check nor a problem shows one.
func TestSecretsAreShownNowhere(t *testing.T) {
	environ := []string{"SSE_SECRET_A=confidential-one", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://h/?k={secret.A}", "SSE_ROUTE_A_HEADERS=X: {secret.A}",
		`SSE_ROUTE_A_HELLO=> {"k":"{= $secret.a|sha1}"}`, "SSE_ROUTE_A_SELECT=select(.k==$secret.a)"}
	c, err := Load(environ, ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	if err := c.Check(&printed); err != nil || strings.Contains(printed.String(), "confidential") {
		t.Errorf("%v\n%s", err, &printed)
	}
	for _, wrong := range []string{"SSE_ROUTE_A_DATA=$secret.b", "SSE_ROUTE_A_ID=$secret.a", "SSE_ROUTE_A_DATA=$secret"} {
		if _, err := Load(append(environ, wrong), ReadFile); err == nil || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// TestSecretsAreReloaded: a secret that rotates, in its file or in the env file, changes no route; the routes that are kept use the new one.
func TestSecretsAreReloaded(t *testing.T) {
	held := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(held, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := envText + "SSE_SECRET_A=one\nSSE_SECRET_B_FILE=" + held + "\nSSE_ROUTE_A_HEADERS=X: {secret.A}{secret.B}\n"
	reloading(t, text, func(t *testing.T, r *running) {
		kept := r.was.secrets
		shows := func(want string) {
			t.Helper()
			synctest.Wait()
			a, _ := kept.Text("a")
			b, _ := kept.Text("b")
			if a+" "+b != want {
				t.Errorf("%s %s, want %s\n%s", a, b, want, r.log.take())
			}
		}
		shows("one first")
		r.write(t, "env", strings.Replace(text, "=one", "=two", 1))
		time.Sleep(3 * time.Second)
		shows("two first")
		if said := r.log.take(); !strings.Contains(said, "SSE_SECRET_A") || strings.Contains(said, "two") {
			t.Error(said)
		}
		if err := os.WriteFile(held, []byte("second\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		shows("two second")
		if last := r.applied[len(r.applied)-1]; last.Routes[0] != r.was.Routes[0] {
			t.Error("the route that uses it is another one")
		}
		r.write(t, "env", strings.Replace(text, "SSE_SECRET_A=one\n", "", 1))
		time.Sleep(3 * time.Second)
		shows("two second")
		if said := r.log.take(); !strings.Contains(said, "SSE_SECRET_A") {
			t.Error(said)
		}
	})
}
