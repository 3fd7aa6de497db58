package dialect

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/tools/txtar"

	"sidestream/translate"
	"sidestream/translate/sse"
)

var update = flag.Bool("update", false, "write what comes out into the golden files")

// TestGolden plays the sessions of testdata/<dialect>/*.txtar. A file holds the route's settings, each in a part of its
// name; "in", what happens, one thing a line:
//
//	dial             where to connect is asked
//	answer body      what the request before the dial was answered with, status 200
//	open [protocol]  a connection begins, on which the upstream has chosen that subprotocol
//	< text           a text message arrives
//	<q "text"        one written as Go does it, for those with line ends or control characters
//	<< hex           a binary one
//	<<q "text"       a binary one that is text
//	skipped          one was over MAX_MESSAGE
//	ping             the time of Timers.Every has come
//	acks             and all that came is in the ring
//	denied status    the upgrade was answered with it
//	failed           the connection has ended before it was ready
//	send text        a client's message is to be sent
//	closed code why  the upstream has closed the connection; 0: it was lost
//	leave            we do
//
// and "out", where each is answered by what the session does: "> frame" (">q" quoted, ">>" binary, ">>q" lines in binary) is sent, "| line" is a
// line of the SSE bytes, "ready", "resumed", "anew", "intact", "waits", "every", "silence", "done" and "resumable" are the session's states,
// "refused", "finished", "later" and "retry" are errors, "failed" are programs,
// "undecoded" are payloads that DECODE failed for.
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

// TestGoldenHandedOn plays sessions that resume as if each connection were another process's: what came out of a session that lived on
// comes out of one that is restored.
func TestGoldenHandedOn(t *testing.T) {
	for _, file := range []string{"socket.io/recovery", "actioncable/anycable", "signalr/takeover", "signalr-classic/hubs", "signalr-classic/overrun", "webpubsub/session", "centrifuge/centrifugo", "centrifuge/subscriptions", "mqtt/exactly", "raw/discord", "raw/state", "raw/mattermost"} {
		archive, err := txtar.ParseFile("testdata/" + file + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]string{"restore": "yes"}
		for _, f := range archive.Files {
			parts[f.Name] = strings.TrimSuffix(string(f.Data), "\n")
		}
		if out, want := untimed(play(t, filepath.Dir(file), parts)), untimed(parts["out"]+"\n"); out != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", file, out, want)
		}
		if strings.Count(parts["in"], "open") < 2 {
			t.Errorf("%s has one connection", file)
		}
	}
}

// untimed leaves out the timers, of which a transcript has only changes.
func untimed(out string) string {
	return regexp.MustCompile(`(?m)^    (every|silence|waits) .*\n`).ReplaceAllString(out, "")
}

// player is one session being played.
type player struct {
	session Session
	program *translate.Program
	out     bytes.Buffer
	events  int
	was     Timers // as shown last
	saved   []byte // by the session last
}

func play(t *testing.T, dialect string, parts map[string]string) string {
	t.Helper()
	d, err := Find(dialect)
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
	begin := func() Session {
		return script(t, parts["HELLO"], parts["REPLY"], parts["PING"]).with(t, parts).Wrap(named(d.New(options(t, d, parts))))
	}
	p.session = begin()
	ended := false
	for line := range strings.SplitSeq(parts["in"], "\n") {
		if line == "" {
			continue
		}
		fmt.Fprintf(&p.out, "%s\n", line)
		word, rest, _ := strings.Cut(line, " ")
		if next := word == "dial" || word == "open"; next && ended && parts["restore"] != "" {
			p.session = begin()
			if p.saved != nil {
				if err := p.session.Restore(p.saved); err != nil {
					t.Fatalf("%s: %q: %v", dialect, p.saved, err)
				}
			}
			ended = false
		}
		ended = (ended || word == "open") && word != "dial" && word != "answer" // whose open is of the same connection
		switch word {
		case "dial":
			p.dial(nil)
		case "answer":
			p.dial(&HTTPResponse{Status: 200, Header: http.Header{}, Body: []byte(rest)})
		case "open":
			frames, err := p.session.Open(rest)
			p.show(Received{Replies: frames}, err)
		case "<q":
			p.receive(Frame{Data: []byte(unquoted(t, strings.Trim(rest, `"`)))})
		case "skipped":
			p.show(Received{}, p.session.Skipped())
		case "send":
			frames, err := p.session.Send(translate.Message{Data: []byte(rest)})
			p.show(Received{Replies: frames}, err)
		case "closed":
			number, reason, _ := strings.Cut(rest, " ")
			code, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			p.show(Received{}, p.session.Closed(code, reason))
			p.save()
			if p.session.Resumable() {
				fmt.Fprintln(&p.out, "    resumable")
			}
		case "leave":
			p.show(Received{Replies: p.session.Leave()}, nil)
		case "<":
			p.receive(Frame{Data: []byte(rest)})
		case "<<q":
			p.receive(Frame{Binary: true, Data: []byte(unquoted(t, strings.Trim(rest, `"`)))})
		case "<<":
			data, err := hex.DecodeString(rest)
			if err != nil {
				t.Fatal(err)
			}
			p.receive(Frame{Binary: true, Data: data})
		case "acks":
			p.show(Received{Acks: p.session.Acks()}, nil)
		case "denied":
			status, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatal(err)
			}
			if p.session.Denied(status) {
				fmt.Fprintln(&p.out, "    anew")
			}
		case "failed":
			if p.session.Failed() {
				fmt.Fprintln(&p.out, "    intact")
			}
		case "ping":
			frames, err := p.session.Ping()
			p.show(Received{Replies: frames}, err)
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return p.out.String()
}

func (p *player) dial(last *HTTPResponse) {
	d, err := p.session.Dial(last)
	h := d.Header
	if r := d.Request; r != nil {
		fmt.Fprintf(&p.out, "    asks %s %s\n", r.Method, r.URL)
		h = r.Header
	} else if err == nil {
		fmt.Fprintf(&p.out, "    dials %s %s\n", d.URL, strings.Join(d.Subprotocols, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&p.out, "    %s: %s\n", name, strings.Join(h[name], ", "))
	}
	if err != nil {
		p.show(Received{}, err)
	}
}

func (p *player) receive(f Frame) {
	got, err := p.session.Receive(context.Background(), noon, f)
	p.save()
	p.show(got, err)
}

// save notes what a stream would write now.
func (p *player) save() {
	if saved := p.session.Save(); saved != nil {
		p.saved = bytes.Clone(saved)
	}
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
			if !sse.ValidID(id) {
				id = fmt.Sprint("b-", p.events)
			}
			text := string(sse.AppendEvent(nil, id, o.Event, o.Data))
			for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
				fmt.Fprintf(&p.out, "    |%s\n", strings.TrimRight(" "+line, " "))
			}
		}
		if done {
			fmt.Fprintln(&p.out, "    done")
		}
	}
	for _, one := range got.Decoded {
		if one.Err != nil {
			fmt.Fprintf(&p.out, "    undecoded: %v\n", one.Err)
		}
	}
	for _, failed := range got.Failed {
		fmt.Fprintf(&p.out, "    failed: %v\n", failed)
	}
	p.session.Sending(slices.Concat(got.Replies, got.Acks))
	for _, f := range slices.Concat(got.Replies, got.Acks) {
		switch {
		case f.Binary && bytes.HasSuffix(f.Data, []byte("\r\n")) && utf8.Valid(f.Data):
			fmt.Fprintf(&p.out, "    >>q %q\n", f.Data)
		case f.Binary:
			fmt.Fprintf(&p.out, "    >> %x\n", f.Data)
		case bytes.ContainsFunc(f.Data, unicode.IsControl):
			fmt.Fprintf(&p.out, "    >q %q\n", f.Data)
		default:
			fmt.Fprintf(&p.out, "    > %s\n", f.Data)
		}
	}
	if err != nil {
		fmt.Fprintf(&p.out, "    %s: %v\n", outcome(err), err)
		return
	}
	if got.Ready {
		fmt.Fprintln(&p.out, "    ready")
	}
	if got.Resumed {
		fmt.Fprintln(&p.out, "    resumed")
	}
	p.timers()
}

// outcome names what an error of a session asks for.
func outcome(err error) string {
	var refused *translate.Refused
	var later *translate.Later
	switch {
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, translate.ErrFinished):
		return "finished"
	case errors.As(err, &later):
		return fmt.Sprintf("later (%v)", later.After)
	}
	return "retry"
}

// timers shows the timers that have changed.
func (p *player) timers() {
	now := p.session.Timers()
	if now.Opening > 0 {
		fmt.Fprintf(&p.out, "    waits %v\n", now.Opening)
	}
	if now.Every != p.was.Every {
		fmt.Fprintf(&p.out, "    every %v\n", now.Every)
	}
	if now.Silence != p.was.Silence {
		fmt.Fprintf(&p.out, "    silence %v\n", now.Silence)
	}
	p.was = now
}
