package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// ErrWords is returned for words after history that it does not know.
var ErrWords = errors.New("write sidestream history verify DIR")

// errVerify is returned for a folder that lacks something.
var errVerify = errors.New("the folder is damaged")

// Command is the command history, with its words.
func Command(args []string, stdout io.Writer) error {
	if len(args) != 2 || args[0] != "verify" {
		return ErrWords
	}
	return Verify(args[1], stdout)
}

// Verify reads all that is in a folder, changes nothing, and prints what there is, and what is wrong with it. A sidecar may be using it: then
// what it is writing just now may show as cut off. The error says that something is damaged, or cannot be read.
func Verify(dir string, w io.Writer) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no folder that can be read", dir)
	}
	report := &findings{w: w}
	f := &Folder{Settings: Settings{Dir: dir, Log: slog.New(report)}, segmentSize: defaultSegment, streams: map[name]*entry{}, readOnly: true}
	if _, err := os.Stat(f.path("key")); err != nil {
		return fmt.Errorf("%s is no folder of a history: it has no file named key", dir)
	}
	if err := f.recover(); err != nil {
		return fmt.Errorf("the folder %s: %w", dir, plain(err))
	}
	var size int64
	for _, s := range f.segments {
		size += s.size
	}
	fmt.Fprintf(w, "files    %d, %d bytes\n", len(f.segments), size)
	if f.torn > 0 {
		fmt.Fprintf(w, "cut off  %d bytes at the end of the last file: a process was killed while it wrote them, or is writing them\n", f.torn)
	}
	f.verifyStreams(w, report)
	if stale, err := os.ReadFile(f.path(staleFile)); err == nil && string(stale) == "yes\n" {
		report.found++
		fmt.Fprintln(w, "damage   the disk was full, and clients were given events that are not here")
	}
	if report.found > 0 {
		return fmt.Errorf("%w in %d places; clients of the streams concerned are told that events may be missing (history)", errVerify, report.found)
	}
	fmt.Fprintln(w, "ok")
	return nil
}

// verifyStreams reads every record that is needed.
func (f *Folder) verifyStreams(w io.Writer, report *findings) {
	var events, keyed int
	var oldest, newest time.Time
	for n, e := range f.streams {
		loaded, err := f.load(e)
		if err != nil || e.lacks || e.owes {
			report.found++
			fmt.Fprintf(w, "damage   a stream, %x: %v\n", n[:8], orLacks(err))
			continue
		}
		events, keyed = events+len(e.events), keyed+len(e.keyed)
		for i := range loaded.Events {
			at := loaded.Events[i].At
			if oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
			if at.After(newest) {
				newest = at
			}
		}
	}
	fmt.Fprintf(w, "streams  %d\nevents   %d, and %d older ones that are the newest of their key\n", len(f.streams), events, keyed)
	if !newest.IsZero() {
		fmt.Fprintf(w, "from     %s to %s\n", oldest.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
	}
}

func orLacks(err error) error {
	if err == nil {
		return errors.New("events are missing that clients were given, or that what its source goes on with comes after")
	}
	return plain(err)
}

// findings are what reading a folder logs, as lines.
type findings struct {
	w     io.Writer
	found int
}

// Enabled is part of [slog.Handler].
func (f *findings) Enabled(context.Context, slog.Level) bool { return true }

// Handle is part of [slog.Handler].
func (f *findings) Handle(_ context.Context, r slog.Record) error {
	f.found++
	line := "damage  "
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.Value.String()
		return true
	})
	_, err := fmt.Fprintln(f.w, line)
	return err
}

// WithAttrs is part of [slog.Handler].
func (f *findings) WithAttrs([]slog.Attr) slog.Handler { return f }

// WithGroup is part of [slog.Handler].
func (f *findings) WithGroup(string) slog.Handler { return f }
