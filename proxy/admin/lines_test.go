package admin

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is what reads the lines: it can be stuck, or gone.
type reader struct {
	mu    sync.Mutex
	lines []string
	stuck chan struct{} // nil: it is not
	gone  bool
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	stuck := r.stuck
	r.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return 0, errors.New("broken pipe")
	}
	r.lines = append(r.lines, string(p))
	return len(p), nil
}

func TestLinesNeverWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{stuck: make(chan struct{})}
		l := &Lines{To: r}
		l.Said = func(lost int64) { fmt.Fprintf(l, "%d lost\n", lost) }
		go l.Run() // ends with Close
		fmt.Fprint(l, "first\n")
		synctest.Wait()
		for n := range maxLines + 10 {
			fmt.Fprintf(l, "%d\n", n)
		}
		if n := l.Lost(); n != 10 {
			t.Errorf("%d lost, want 10", n)
		}
		r.mu.Lock()
		close(r.stuck)
		r.stuck = nil
		r.mu.Unlock()
		synctest.Wait()
		l.Close(time.Second)
		text := strings.Join(r.lines, "")
		if !strings.HasPrefix(text, "first\n0\n1\n") || !strings.HasSuffix(text, fmt.Sprintf("%d\n10 lost\n", maxLines-1)) || len(r.lines) != maxLines+2 {
			t.Errorf("%d lines, %.60q ... %q", len(r.lines), text, text[len(text)-30:])
		}
	})
}

func TestLinesAreBoundedInBytes(t *testing.T) {
	l := &Lines{To: &reader{}}
	line := make([]byte, 1<<20)
	for range 6 {
		l.Write(line)
	}
	if n := l.Lost(); n != 2 {
		t.Errorf("%d lost, want what is over 4 MiB", n)
	}
}

func TestLinesOutliveTheirReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gone: true}
		var said []int64
		l := &Lines{To: r, Said: func(lost int64) { said = append(said, lost) }}
		go l.Run() // ends with Close
		for range 3 {
			fmt.Fprint(l, "nobody reads this\n")
			synctest.Wait()
		}
		r.mu.Lock()
		r.gone = false
		r.mu.Unlock()
		fmt.Fprint(l, "back\n")
		synctest.Wait()
		if l.Lost() != 3 || fmt.Sprint(said) != "[3]" || fmt.Sprint(r.lines) != "[back\n]" {
			t.Errorf("%d lost, said %v, lines %q", l.Lost(), said, r.lines)
		}
		l.Close(time.Second)
	})
}

// A reader that is stuck does not keep the process from ending.
func TestLinesCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{stuck: make(chan struct{})}
		l := &Lines{To: r}
		go l.Run() // ends once it is not stuck any more
		fmt.Fprint(l, "x\n")
		synctest.Wait()
		begun := time.Now()
		l.Close(time.Second)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v", took)
		}
		fmt.Fprint(l, "too late\n")
		if l.Lost() != 1 {
			t.Errorf("%d lost", l.Lost())
		}
		close(r.stuck)
	})
}
