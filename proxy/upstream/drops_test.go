package upstream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Programs that drop everything are told of after a minute, and once a minute; one event that comes of a message is enough not to.
func TestDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, d := slog.New(slog.NewTextHandler(&out, nil)), new(drops)
		said := func() int { return strings.Count(out.String(), "dropped everything") }
		for second := range 150 {
			d.saw(log, 0)
			if want := second / 60; said() != min(want, 2) && second != 120 {
				t.Errorf("after %d s said %d times", second, said())
			}
			time.Sleep(time.Second)
		}
		if !strings.Contains(out.String(), "messages=61") {
			t.Error(out.String())
		}
		before := said()
		for range 300 {
			d.saw(log, 0)
			time.Sleep(time.Second / 2)
			if time.Now().Second()%30 == 0 {
				d.saw(log, 1)
			}
		}
		if said() != before {
			t.Error("though events came")
		}
	})
}
