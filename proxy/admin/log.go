package admin

import (
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sidestream/proxy"

	"github.com/lmittmann/tint"
)

// Logger writes to w itself: as text where that is a terminal or format is text, else as JSON. format is auto, text or json.
func Logger(w io.Writer, format string, level slog.Level) *slog.Logger {
	return slog.New(handler(w, isTerminal(w), format, level))
}

// Logging calls f with a log that never makes it wait, and goes on where what reads w is stuck or gone. Libraries that write to
// the standard logger, and quote what upstreams say, write to it meanwhile. It returns what f does, once the lines are written, or a
// second after.
func Logging(w io.Writer, format string, level slog.Level, f func(*slog.Logger, *Lines) error) error {
	signal.Ignore(syscall.SIGPIPE) // of w; otherwise the next line would end the process
	lines := &Lines{To: w}
	lines.Tail = newTail(level)
	log := slog.New(lines.Tail.handler(handler(lines, isTerminal(w), format, lines.Tail.Level)))
	stdlog.SetOutput(proxy.ErrorLog(log).Writer())
	stdlog.SetFlags(0)
	defer stdlog.SetOutput(w)
	lines.Said = func(lost int64) { log.Warn("log lines were lost: their reader was stuck or gone", "lines", lost) }
	go lines.Run() // ends with Close
	defer lines.Close(time.Second)
	return f(log, lines)
}

func isTerminal(w io.Writer) bool {
	file, _ := w.(*os.File)
	if file == nil {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// handler writes for a person at a terminal, for machines otherwise.
func handler(w io.Writer, terminal bool, format string, level slog.Leveler) slog.Handler {
	if format == "json" || format == "auto" && !terminal {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal || os.Getenv("NO_COLOR") != ""})
}
