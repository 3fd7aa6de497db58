//go:build e2e

package e2e

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ran runs a program and returns what it prints.
func ran(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	c := exec.Command(program, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRelease makes a release of the newest commit, and installs its package in a folder: the program runs and says what it is of, systemd takes its unit, its manual
// is one, shells complete its words, and the bill of materials names what is in it.
func TestRelease(t *testing.T) {
	t.Parallel()
	clone, out, root := filepath.Join(t.TempDir(), "clone"), t.TempDir(), t.TempDir()
	ran(t, "..", "git", "clone", "-q", "--no-hardlinks", ".", clone)
	revision := strings.TrimSpace(ran(t, clone, "git", "rev-parse", "HEAD"))
	ran(t, clone, "./e2e/release.sh", "1.2.3", out, "linux/amd64")
	ran(t, out, "sha256sum", "-c", "SHA256SUMS")

	for _, dir := range []string{"info", "updates"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ran(t, out, "dpkg", "--root="+root, "--force-script-chrootless", "--force-not-root", "--log=/dev/null", "-i", "sidestream_1.2.3_amd64.deb")
	program := filepath.Join(root, "usr/bin/sidestream")
	if said := ran(t, root, program, "version"); !strings.HasPrefix(said, "sidestream 1.2.3 (revision "+revision+", go1.") {
		t.Errorf("it says %q", said)
	}
	unit, err := os.ReadFile(filepath.Join(root, "lib/systemd/system/sidestream.service"))
	if err != nil || !strings.Contains(string(unit), "ExecStart=/usr/bin/sidestream -env-file /etc/sidestream.env\n") {
		t.Errorf("the unit: %v\n%s", err, unit)
	}
	named := filepath.Join(t.TempDir(), "sidestream.service")
	if err := os.WriteFile(named, []byte(strings.ReplaceAll(string(unit), "/usr/bin/sidestream", program)), 0o644); err != nil {
		t.Fatal(err)
	}
	ran(t, root, "systemd-analyze", "verify", "--man=no", named)
	if strings.Contains(string(unit), "\nLoadCredential=") {
		t.Error("it starts only where there is a token")
	}
	for _, name := range []string{"usr/share/man/man1/sidestream.1.gz", "usr/share/doc/sidestream/copyright", "usr/share/zsh/vendor-completions/_sidestream", "usr/share/fish/vendor_completions.d/sidestream.fish", "etc/sidestream.env"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	completes := func(words string) string {
		script := `source "$1"; COMP_WORDS=(` + words + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sidestream; echo "${COMPREPLY[@]}"`
		return strings.TrimSpace(ran(t, root, "bash", "-c", script, "bash", filepath.Join(root, "usr/share/bash-completion/completions/sidestream")))
	}
	for words, want := range map[string]string{"sidestream hea": "healthcheck", "sidestream check -d": "-diff", "sidestream -env-file x.env tap -": "-raw -n -for", "sidestream manual z": "zsh"} {
		if got := completes(words); got != want {
			t.Errorf("%q is completed to %q, want %q", words, got, want)
		}
	}

	text, err := os.ReadFile(filepath.Join(out, "sidestream_1.2.3_linux_amd64.sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version {
			t.Errorf("the bill has %s %q, the program %s", m.Path, listed[m.Path], m.Version)
		}
		if !regexp.MustCompile(`^v\d+\.\d+\.\d+`).MatchString(m.Version) || m.Replace != nil {
			t.Errorf("%s %s is no release", m.Path, m.Version)
		}
	}
	if len(info.Deps) < 5 {
		t.Errorf("only %d modules", len(info.Deps))
	}
}
