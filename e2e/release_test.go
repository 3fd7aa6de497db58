//go:build e2e

package e2e

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

	// What it says of its size is of the files, not of this disk.
	deb := "sidestream_1.2.3_amd64.deb"
	files, said := 0, 0
	for _, line := range strings.Split(ran(t, out, "dpkg-deb", "-c", deb), "\n") {
		if words := strings.Fields(line); len(words) > 2 && line[0] == '-' {
			size, err := strconv.Atoi(words[2])
			if err != nil {
				t.Fatal(line)
			}
			files += (size + 1023) / 1024
		}
	}
	if said, _ = strconv.Atoi(strings.TrimSpace(ran(t, out, "dpkg-deb", "-f", deb, "Installed-Size"))); said != files {
		t.Errorf("it says to have %d KiB, its files have %d", said, files)
	}
	// Where it is installed below another root, this machine's services are left alone.
	ran(t, out, "dpkg-deb", "-e", deb, "control")
	for _, script := range []string{"postinst configure", "prerm remove", "postrm remove"} {
		name, word, _ := strings.Cut(script, " ")
		text, err := os.ReadFile(filepath.Join(out, "control", name))
		if err != nil {
			t.Fatal(err)
		}
		trial := strings.ReplaceAll(strings.ReplaceAll(string(text), "/run/systemd/system", "/"), "systemctl", "echo")
		for below, want := range map[string]bool{"": true, "/somewhere": false} {
			cmd := exec.Command("sh", "-c", trial, name, word)
			cmd.Env = append(os.Environ(), "DPKG_ROOT="+below)
			if done, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(done), "daemon-reload") != (want && name != "prerm") || strings.Contains(string(done), "sidestream.service") != (want && name != "postrm") {
				t.Errorf("%s below %q: %s, %v", script, below, done, err)
			}
		}
	}
	// Made once more in the same folder, beside another release's files, it is the same.
	sums, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(clone, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(clone, "dist", "sidestream_1.2.2_linux_amd64.tar.gz"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	again := exec.Command("./e2e/release.sh", "1.2.3", "dist", "linux/amd64")
	again.Dir, again.Env = clone, append(os.Environ(), "GOOS=windows", "GOAMD64=v3", "TZ=Asia/Tokyo")
	if said, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if twice, err := os.ReadFile(filepath.Join(clone, "dist", "SHA256SUMS")); err != nil || string(twice) != string(sums) {
		t.Errorf("%v; once it is\n%s, once\n%s", err, sums, twice)
	}

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
