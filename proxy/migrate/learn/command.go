package learn

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrWords is wrapped by the error of a command line that is off.
var ErrWords = errors.New("the arguments of learn are [-o FILE] [-for TIME] [-probe] and a URL, or the name of a HAR file")

// Serve serves a pass-through to the service at upstream until ctx is done. It calls watching once it answers, with what learns from it, the address
// that it answers on, and what the service is asked by.
type Serve func(ctx context.Context, upstream string, watching func(l *Learner, address string, asks http.RoundTripper)) error

// Command is `sidestream learn`: it watches a service's clients, or reads what a browser has recorded, and writes an env file. serve is called for
// the former. Its error wraps [ErrWords] where words are off.
func Command(ctx context.Context, words []string, stdout, stderr io.Writer, serve Serve) error {
	flags := flag.NewFlagSet("learn", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	out := flags.String("o", "", "")
	long := flags.Duration("for", 0, "")
	probes := flags.Bool("probe", false, "")
	if err := flags.Parse(words); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrWords, err)
	}
	switch {
	case flags.NArg() != 1:
		return fmt.Errorf("%w; got %d of them", ErrWords, flags.NArg())
	case *long < 0:
		return fmt.Errorf("%w: -for %v is less than nothing", ErrWords, *long)
	}
	if err := absent(*out); err != nil {
		return err
	}
	c := command{out: *out, long: *long, probe: *probes, stdout: stdout, stderr: stderr}
	report, err := c.learn(ctx, flags.Arg(0), serve)
	if err != nil {
		return err
	}
	return c.print(report)
}

type command struct {
	out            string
	long           time.Duration
	probe          bool
	stdout, stderr io.Writer
}

// absent fails when there is a file already.
func absent(file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: -o %s is there already, and is not overwritten; give another name, or move it away", ErrWords, file)
	}
	return nil
}

func (c *command) learn(ctx context.Context, from string, serve Serve) (Report, error) {
	if isFile(from) {
		if c.probe || c.long > 0 {
			return Report{}, fmt.Errorf("%w: -for and -probe need a service that runs, and %s is a file", ErrWords, from)
		}
		o, err := readFile(from)
		if err != nil {
			return Report{}, err
		}
		return Conclude(o, nil), nil
	}
	if !strings.Contains(from, "://") {
		if _, _, err := net.SplitHostPort(from); err != nil {
			return Report{}, fmt.Errorf("%w: %q is no file that is there, and no URL; write one such as http://localhost:3000", ErrWords, from)
		}
		from = "http://" + from
	}
	return c.watch(ctx, from, serve)
}

// isFile reports whether what to learn from is a file rather than a service.
func isFile(from string) bool {
	if strings.Contains(from, "://") {
		return false
	}
	_, err := os.Stat(from)
	return err == nil || strings.HasSuffix(strings.ToLower(from), ".har")
}

// watch learns from what passes through until ctx is done, or the time is over.
func (c *command) watch(ctx context.Context, from string, serve Serve) (report Report, err error) {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if c.long > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, c.long)
		defer end()
	}
	started := make(chan watching, 1)
	concluded := make(chan Report, 1)
	var ending sync.WaitGroup
	ending.Go(func() { // ends with ctx, or with serving
		select {
		case <-ctx.Done():
		case <-serving.Done():
			return
		}
		select {
		case w := <-started:
			concluded <- c.conclude(ctx, w) // before WebSockets are cut
		default:
		}
		stop()
	})
	err = serve(serving, from, func(l *Learner, address string, asks http.RoundTripper) {
		started <- watching{l, asks}
		fmt.Fprintf(c.stderr, "watching %s: use your application at %s, log in, let each feed run for a minute; Ctrl-C ends\n", from, address)
	})
	stop()
	ending.Wait()
	if err != nil {
		return Report{}, err
	}
	select {
	case report = <-concluded:
		return report, nil
	default:
		return Report{}, errors.New("learn ended before anything was seen")
	}
}

// watching is what watches, and what the service is asked by.
type watching struct {
	learner *Learner
	asks    http.RoundTripper
}

// conclude makes the report, after asking the service where that is wanted.
func (c *command) conclude(ctx context.Context, w watching) Report {
	o := w.learner.Observe()
	if !c.probe {
		return Conclude(o, nil)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
	defer cancel()
	return Conclude(o, Probe(ctx, o, w.asks))
}

// print writes the table, and the env file.
func (c *command) print(r Report) error {
	if c.out == "" {
		if err := r.Table(c.stderr); err != nil {
			return err
		}
		_, err := io.WriteString(c.stdout, r.Env)
		return err
	}
	if err := r.Table(c.stdout); err != nil {
		return err
	}
	f, err := os.OpenFile(c.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		_, _ = io.WriteString(c.stdout, r.Env) // rather than lose it
		return fmt.Errorf("learn: %w; what was learned is printed", err)
	}
	_, err = f.WriteString(r.Env)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("learn: %w", err)
	}
	_, err = fmt.Fprintf(c.stdout, "\nwritten to %s; next:\n  sidestream -env-file %s check\n", c.out, c.out)
	for _, rt := range r.Routes {
		words := strings.Join(append([]string{strings.ToLower(rt.Name)}, rt.wants()...), " ")
		_, err = fmt.Fprintf(c.stdout, "  sidestream -env-file %s tap %s\n  sidestream -env-file %s compare %s -for 1m\n", c.out, words, c.out, words)
	}
	return err
}

// placeholder is a value of the client's in a setting that has no default.
var placeholder = lazily(`\{(path|query|header|cookie)\.([^{}:"\s]+)\}`)

// wants are the values of a client that the route needs, as words of tap.
func (r *Route) wants() (words []string) {
	for _, s := range r.Settings {
		for _, m := range placeholder.FindAllStringSubmatch(s.Value, -1) {
			if word := m[1] + "." + m[2] + "=…"; s.Name != "PATH" && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}
