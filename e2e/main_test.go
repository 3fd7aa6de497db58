//go:build e2e

// Package e2e runs the built binary against real servers, the clients that pages really use, and real browsers. The
// tests need what test.sh installs; without the build tag e2e there is nothing here.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// binary is the program under test, built with the race detector.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv(herdEnv) != "" { // a process of TestHerdReturns'
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "sidestream-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "sidestream")
	words := []string{"build", "-race", "-o", binary, "."}
	if os.Getenv("SSE_E2E_RACE") == "off" { // to measure
		words = slices.Delete(words, 1, 2)
	}
	build := exec.Command("go", words...)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binary: %v\n%s", err, out)
		os.Exit(1)
	}
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		status = 1
	}
	os.RemoveAll(dir)
	os.Exit(status)
}
