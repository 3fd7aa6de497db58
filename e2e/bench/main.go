//go:build linux

// Bench measures the sidecar beside the least that the kernel lets one pay, beside what is written first in Go, and
// beside nchan where nginx has it, in one run on one machine. The rules:
//
//   - Each server is a process of its own, and so is each server's load client: what is counted is user and system time
//     of the server's process alone, and its resident memory.
//   - All servers are up at once, with clients that idle, and are measured in turn, several rounds; the table has the
//     median. What the machine does beside it hits all alike.
//   - A CPU figure is of a known number of events: from rest, through their delivery to every client, to rest.
//   - Absolute figures are the machine's. The ratios are what to look at.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// roles are the programs that the bench starts itself as.
var roles = map[string]func(args []string) error{
	"floor":     func([]string) error { return serveFloor(false) },
	"coalesced": func([]string) error { return serveFloor(true) },
	"plain":     func([]string) error { return servePlain() },
	"load":      func([]string) error { return runLoad() },
	"h2load":    func([]string) error { return runH2Load() },
	"tlsload":   func([]string) error { return runTLSLoad() },
	"shim":      func(args []string) error { return serveShim(args[0]) },
}

// size is how much one run measures.
type size struct {
	many, few     int // clients
	private       int // clients with a stream of their own; many, where there are descriptors for them
	manyRate      int // events/s to the many
	fewRate       int // events/s to the few
	rounds        int
	window        time.Duration // of one round
	settle        time.Duration // before memory is read
	privateSettle time.Duration // the same, where each client has a stream: what opening them needed is given back a while later
	firstStep     int           // events/s that the search for the most begins with
	lastStep      int
	step          time.Duration
	behind        int // clients of a round that connect with events to replay
	h2Conns       int
	h2Streams     int // on each connection
	h2Rate        int
	h2Window      time.Duration
	reconnecting  int
}

var (
	full = size{many: 10000, few: 1000, manyRate: 5, fewRate: 100, rounds: 3, window: 2 * time.Second, settle: 6 * time.Second, privateSettle: 25 * time.Second,
		firstStep: 120, lastStep: 20000, step: 1500 * time.Millisecond, behind: 500, h2Conns: 200, h2Streams: 10, h2Rate: 20,
		h2Window: 3 * time.Second, reconnecting: 10000}
	quick = size{many: 500, few: 200, manyRate: 20, fewRate: 100, rounds: 1, window: 500 * time.Millisecond, settle: 500 * time.Millisecond, privateSettle: 500 * time.Millisecond,
		firstStep: 200, lastStep: 400, step: 500 * time.Millisecond, behind: 50, h2Conns: 10, h2Streams: 5, h2Rate: 20,
		h2Window: 500 * time.Millisecond, reconnecting: 500}

	// Of TLS: memory is given back once nothing has been asked for for a while, and the load client takes more of the machine.
	fullTLS  = size{many: 5000, manyRate: 2, rounds: 3, window: 5 * time.Second, settle: 40 * time.Second}
	quickTLS = size{many: 100, manyRate: 20, rounds: 1, window: 500 * time.Millisecond, settle: 500 * time.Millisecond}
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "-role" {
		if err := roles[os.Args[2]](os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	small := flag.Bool("quick", false, "a few hundred clients and seconds: proves that the bench works, measures nothing")
	markdown := flag.Bool("markdown", false, "print the tables as Markdown, with machine and versions")
	asJSON := flag.Bool("json", false, "print the figures as JSON")
	only := flag.String("only", "", "servers to measure, comma-separated, of "+strings.Join(names, ", ")+"; empty: all")
	history := flag.Bool("history", false, "measure what a history costs instead: the folder, and Redis, beside the ring alone")
	overTLS := flag.Bool("tls", false, "measure what TLS costs over HTTP/1.1 instead: the sidecar with it, beside without, and beside nginx that terminates it")
	private := flag.Bool("private", false, "measure what private WebSocket streams cost instead, beside a shim in Go")
	messages := flag.Bool("messages", false, "measure what jq costs a message instead: programs that are run without gojq beside the same by it")
	beside := flag.String("beside", "", "with -messages: the `BINARY` of an earlier sidecar, to be measured in the same run")
	rate := flag.Int("rate", 10000, "with -messages: how many a second")
	users := flag.Int("users", 5000, "with -private: how many, at most what descriptors allow")
	hold := flag.String("hold", "", "for a profiler: only load the first server, with `RATE,CLIENTS,SECONDS`; rate 0 has its clients come and go instead, rate -1 come 100 events behind")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	limit := raiseLimit()
	dir, err := os.MkdirTemp("", "sidestream-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := full
	if *small {
		s = quick
	}
	s.private = min(s.many, (limit-1000)/2) // here and in the sidecar each has two descriptors
	b := &bench{ctx: ctx, size: s, dir: dir, figures: figures{}, progress: os.Stderr, beside: *beside, rate: *rate}
	defer b.stop()
	switch {
	case *history:
		return b.part(b.costOfHistory, b.historyTable, *asJSON)
	case *overTLS:
		if b.size = fullTLS; *small {
			b.size = quickTLS
		}
		return b.part(b.costOfTLS, b.tlsTable, *asJSON)
	case *messages:
		return b.part(func() error { return b.costOfMessages(*only) }, b.messagesTable, *asJSON)
	case *private:
		if !*small {
			b.size.private = min(*users, s.private)
		}
		return b.part(func() error { return b.costOfPrivate(*only) }, b.privateTable, *asJSON)
	}
	if err := b.start(*only); err != nil {
		return err
	}
	if *hold != "" {
		return b.hold(*hold)
	}
	if err := b.measure(); err != nil {
		return err
	}
	return b.print(os.Stdout, *markdown, *asJSON)
}

// part measures something else than the whole, and prints what has come of it.
func (b *bench) part(cost func() error, table func(io.Writer), asJSON bool) (err error) {
	if b.binary, err = b.build(); err == nil {
		err = cost()
	}
	if err == nil && asJSON {
		return b.print(os.Stdout, false, true)
	}
	table(os.Stdout)
	return err
}

// measuring is something that is measured.
type measuring struct {
	name string
	do   func() error
}

// steps does one after the other, and says how long each has taken.
func (b *bench) steps(all ...measuring) error {
	for _, one := range all {
		begin := time.Now()
		if err := one.do(); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		b.say("%s: %.0f s", one.name, time.Since(begin).Seconds())
	}
	return nil
}

func (b *bench) print(w io.Writer, markdown, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(b.figures)
	}
	b.table(w, markdown)
	return nil
}

// raiseLimit lets this process and its children have as many descriptors as it may, and returns how many.
func raiseLimit() int {
	const wanted = 65536
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: wanted, Max: max(l.Max, wanted)}) != nil {
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: l.Max, Max: l.Max})
	}
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return int(l.Cur)
}

// build builds the sidecar that is measured.
func (b *bench) build() (string, error) {
	binary := filepath.Join(b.dir, "sidestream")
	out, err := exec.CommandContext(b.ctx, "go", "build", "-o", binary, "sidestream").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the sidecar (is this its module?): %w\n%s", err, out)
	}
	return binary, nil
}

// machine is what the figures are of.
func machine() string {
	model := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	var u unix.Utsname
	unix.Uname(&u)
	var m unix.Sysinfo_t
	unix.Sysinfo(&m)
	return fmt.Sprintf("%s, %d cores, %d GiB, Linux %s, %s", model, runtime.NumCPU(), (uint64(m.Totalram)*uint64(m.Unit)+1<<29)>>30,
		unix.ByteSliceToString(u.Release[:]), runtime.Version())
}
