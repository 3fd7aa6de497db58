//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestJQ17 runs the programs of the table of what differs from jq 1.7 by jq 1.7.1 itself, compiled for WebAssembly: it yields what the table says. What
// is said of the sidecar, its package jq looks at.
func TestJQ17(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../translate/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n### What differs from jq 1.7\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var in bytes.Buffer
	var programs, wanted []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 7 || !strings.HasPrefix(line, "| `") {
			continue
		}
		cell := func(i int) string { return strings.ReplaceAll(strings.Trim(cells[i], " `"), "\x00", "|") }
		programs, wanted = append(programs, cell(1)), append(wanted, cell(3))
		asked, _ := json.Marshal([]string{cell(1), cell(2)})
		in.Write(append(asked, '\n'))
	}
	cmd := exec.Command("node", "clients/jq.mjs")
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	for i, want := range wanted {
		var got string
		if !answers.Scan() || json.Unmarshal(answers.Bytes(), &got) != nil {
			t.Fatalf("%d answers to %d programs", i, len(wanted))
		}
		if got != want && (want != "any" || got == "an error") {
			t.Errorf("jq 1.7.1: %s is %s, the table says %s", programs[i], got, want)
		}
	}
	if len(wanted) < 25 {
		t.Errorf("the table has %d rows", len(wanted))
	}
}
