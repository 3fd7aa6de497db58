//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The types that the sidecar serves are those of its scripts, as TypeScript has them: a page that uses everything is right, and what is wrong in it is
// found.
func TestTypes(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	dir := t.TempDir()
	page, err := os.ReadFile("clients/types.ts")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"page.ts": string(page), "events.d.ts": body(t, "http://"+s.addr+"/_sidestream/events.d.ts"),
		"websocket.d.ts": body(t, "http://"+s.addr+"/_sidestream/websocket.d.ts")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compiler, err := filepath.Abs("clients/node_modules/typescript/bin/tsc")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", compiler, "--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--lib", "dom,dom.iterable,es2022",
		"page.ts", "events.d.ts", "websocket.d.ts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
