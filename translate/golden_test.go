package translate

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what comes out into the golden files")

// TestGolden plays the sessions of testdata/<dialect>/*.txtar. A file holds the route's settings, each in a part of its
// name; "in", what happens, one thing a line:
//
//	open        a connection begins
//	< text      a text message arrives
//	<< hex      a binary one
//	ping        the time of PING has come
//
// and "out", where each is answered by what the session does: "> frame" is sent, "| line" is a line of the SSE bytes,
// "ready", "waits" and "done" are the session's states, "refused" and "failed" say why.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) < 4 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.ToSlash(strings.TrimPrefix(file, "testdata"+string(filepath.Separator))), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range archive.Files {
				parts[f.Name] = strings.TrimSuffix(string(f.Data), "\n")
			}
			out := play(t, filepath.Base(filepath.Dir(file)), parts)
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "out" })
				archive.Files = append(archive.Files, txtar.File{Name: "out", Data: []byte(out)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := parts["out"] + "\n"; out != want {
				t.Errorf("got:\n%s\nwant:\n%s", out, want)
			}
		})
	}
}

// player is one session being played.
type player struct {
	session Session
	program *Program
	out     bytes.Buffer
	events  int
}

func play(t *testing.T, dialect string, parts map[string]string) string {
	t.Helper()
	d, err := FindDialect(dialect)
	if err != nil {
		t.Fatal(err)
	}
	var settings []string
	for _, name := range []string{"SELECT", "EVENT", "DATA", "ID", "DONE"} {
		if src, ok := parts[name]; ok {
			settings = append(settings, name+"="+src)
		}
	}
	p := player{program: program(t, settings...)}
	p.session = script(t, parts["HELLO"], parts["REPLY"], parts["PING"]).Wrap(d.New(Options{Binary: parts["BINARY"]}))
	for line := range strings.SplitSeq(parts["in"], "\n") {
		if line == "" {
			continue
		}
		fmt.Fprintf(&p.out, "%s\n", line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "open":
			frames, err := p.session.Open()
			p.show(Received{Replies: frames}, err)
		case "<":
			p.receive(Frame{Data: []byte(rest)})
		case "<<":
			data, err := hex.DecodeString(rest)
			if err != nil {
				t.Fatal(err)
			}
			p.receive(Frame{Binary: true, Data: data})
		case "ping":
			f, err := p.session.Timers().Ping()
			p.show(Received{Replies: []Frame{f}}, err)
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return p.out.String()
}

func (p *player) receive(f Frame) {
	got, err := p.session.Receive(context.Background(), f)
	p.show(got, err)
}

func (p *player) show(got Received, err error) {
	for _, m := range got.Messages {
		out, done, err := p.program.Apply(context.Background(), m)
		if err != nil {
			fmt.Fprintf(&p.out, "    failed: %v\n", err)
		}
		for _, o := range out {
			p.events++
			id := o.ID
			if !ValidID(id) {
				id = fmt.Sprint("b-", p.events)
			}
			sse := string(AppendEvent(nil, id, o))
			for line := range strings.SplitSeq(strings.TrimSuffix(sse, "\n"), "\n") {
				fmt.Fprintf(&p.out, "    |%s\n", strings.TrimRight(" "+line, " "))
			}
		}
		if done {
			fmt.Fprintln(&p.out, "    done")
		}
	}
	for _, failed := range got.Failed {
		fmt.Fprintf(&p.out, "    failed: %v\n", failed)
	}
	for _, f := range got.Replies {
		fmt.Fprintf(&p.out, "    > %s\n", f.Data)
	}
	switch {
	case err != nil:
		fmt.Fprintf(&p.out, "    refused: %v\n", err)
	case got.Ready:
		fmt.Fprintln(&p.out, "    ready")
	case p.session.Timers().Opening > 0:
		fmt.Fprintf(&p.out, "    waits %v\n", p.session.Timers().Opening)
	}
}
