//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// typing is a zsh at a terminal, in which each line is typed, completed, and shown between < and >.
const typing = `
zmodload zsh/zpty
zpty shell zsh -f -i
say() { zpty -w -n shell "$1" }
say "PS1=; fpath=($1 \$fpath); autoload -Uz compinit && compinit -u -D; show() { print -r -- \"<\$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^X' show; setopt no_beep no_auto_list; print rea''dy"$'\n'
zpty -r -m shell out '*ready*'
shift
for line; do
  say "$line"$'\t'$'\x18'
  zpty -r -m shell out '*<*>*' && print -r -- "$out"
done
zpty -d shell
`

// TestCompletions: zsh and fish complete what is typed. Bash's are in TestRelease.
func TestCompletions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for shell, name := range map[string]string{"zsh": "_sidestream", "fish": "sidestream.fish"} {
		text, err := exec.Command(binary, "manual", shell).Output()
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string][]byte{name: text})
	}
	write(t, dir, map[string][]byte{"settings.env": nil})
	lines := [][2]string{
		{"sidestream hea", "healthcheck"},
		{"sidestream -env-file x.env hea", "healthcheck"},
		{"sidestream check -di", "-diff"},
		{"sidestream -env-file x.env tap -r", "-raw"},
		{"sidestream manual z", "zsh"},
		{"sidestream history v", "verify"},
		{"sidestream -env-file sett", "settings.env"},
		{"sidestream check -diff sett", "settings.env"},
	}
	var typed []string
	for _, l := range lines {
		typed = append(typed, l[0])
	}
	zsh := exec.Command("zsh", append([]string{"-f", "-c", typing, "zsh", dir}, typed...)...)
	zsh.Dir, zsh.Env = dir, append(os.Environ(), "TERM=xterm", "HOME="+dir)
	out, err := zsh.CombinedOutput()
	shown := regexp.MustCompile(`<(.*)>`).FindAllSubmatch(out, -1)
	if err != nil || len(shown) != len(lines) {
		t.Fatalf("zsh: %v\n%s", err, out)
	}
	for i, l := range lines {
		if got, want := string(shown[i][1]), l[0][:strings.LastIndexByte(l[0], ' ')+1]+l[1]+" "; got != want {
			t.Errorf("zsh completes %q to %q, want %q", l[0], got, want)
		}
		fish := exec.Command("fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", filepath.Join(dir, "sidestream.fish"), l[0])
		fish.Dir, fish.Env = dir, append(os.Environ(), "HOME="+dir)
		out, err := fish.CombinedOutput()
		got, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		if err != nil || got != l[1] {
			t.Errorf("fish completes %q to %q, want %q: %v", l[0], out, l[1], err)
		}
	}
	fish := exec.Command("fish", "--no-config", "-c", "source $argv[1]; complete -C 'sidestream '", filepath.Join(dir, "sidestream.fish"))
	fish.Dir, fish.Env = dir, append(os.Environ(), "HOME="+dir)
	if out, err := fish.CombinedOutput(); err != nil || strings.Contains(string(out), "settings.env") || !strings.Contains(string(out), "healthcheck\t") {
		t.Errorf("fish offers files for a command: %v\n%s", err, out)
	}
}
