//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file sets the clock of a sidecar. Go asks the system for the time past the C library, so that libfaketime has no part in it, and a namespace has no wall
// clock of its own; so the program is built with a package time whose wall clock is as far off as a file says, which it reads at its start and at SIGUSR2. What
// measures how much time has passed is what it was, as it is when the clock of a machine is set.

// steppedMain goes into the program's package main.
const steppedMain = `package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func init() {
	read := func() {
		text, _ := os.ReadFile(os.Getenv("CLOCK_FILE"))
		seconds, _ := strconv.ParseInt(string(text), 10, 64)
		time.Stepped.Store(seconds)
	}
	read()
	step := make(chan os.Signal, 1)
	signal.Notify(step, syscall.SIGUSR2)
	go func() {
		for range step {
			read()
		}
	}()
}
`

// steppedBinary builds the program, once for all tests.
var steppedBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Dir(binary)
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src/time/time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const asked = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), asked) != 1 {
		return "", fmt.Errorf("%s is not as it was: its Now has no line to be changed", original)
	}
	patched := strings.Replace(string(text), asked, "// Stepped is how many seconds the clock is ahead.\nvar Stepped atomic.Int64\n\n"+asked+"\tsec += Stepped.Load()\n", 1)
	patched = strings.Replace(patched, "import (\n", "import (\n\t\"sync/atomic\"\n", 1)
	here, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	replace := map[string]string{original: filepath.Join(dir, "time.go"), filepath.Join(here, "stepped.go"): filepath.Join(dir, "stepped.go")}
	overlay, _ := json.Marshal(map[string]any{"Replace": replace})
	for name, text := range map[string]string{"time.go": patched, "stepped.go": steppedMain, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-race", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "stepped"), ".")
	build.Dir = here
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "stepped"), nil
})

// step sets the sidecar's clock so far from the right time.
func (w *world) step(t *testing.T, by time.Duration) {
	t.Helper()
	if err := os.WriteFile(w.clock, fmt.Append(nil, int64(by/time.Second)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sidecar.Process.Signal(syscall.SIGUSR2)
}

// clockFaults set the clock; it stays so until it is set again.
var clockFaults = []fault{
	{name: "the clock is set", do: func(t *testing.T, w *world) {
		far := []time.Duration{time.Second, 2 * time.Minute, 3 * time.Hour, 400 * 24 * time.Hour}[w.random.IntN(4)]
		w.step(t, w.upTo(2*far)-far)
		w.passes(t, 0, most)
		w.step(t, 0)
	}},
	{name: "the clock is set, and clients are cut", do: func(t *testing.T, w *world) {
		w.step(t, w.upTo(4*time.Hour)-2*time.Hour)
		w.cuts(t, w.either(), cutReset, cutFin)
	}},
	{name: "the clock is set, and the sidecar is killed", do: func(t *testing.T, w *world) {
		w.step(t, w.upTo(4*time.Hour)-2*time.Hour)
		kill(t, w.sidecar)
		if w.random.IntN(2) == 0 {
			w.step(t, -w.upTo(2*time.Hour))
		}
		w.startAgain(t)
	}},
}
