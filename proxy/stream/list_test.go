package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Of each stream its state is listed, and nothing of what its client has confided.
func TestList(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error {
		if n == 1 {
			return nil
		}
		return errors.New("no route to host")
	}, run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1", "2"); err != nil {
			return err
		}
		return wait(ctx, 10*time.Second)
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		join(t, s, "a")
		time.Sleep(10*time.Second + 600*time.Millisecond) // lost, and once not connected
		b, _ := join(t, s, "b"), join(t, s, "b")
		synctest.Wait()
		began := time.Now()
		list := s.List(func(i *Info) bool { return i.State != Complete })
		slices.SortFunc(list, func(a, b Info) int { return Concern(a.State) - Concern(b.State) })
		var got []string
		for _, i := range list {
			c := i.Ring.Contents()
			got = append(got, fmt.Sprint(i.State, " ", c.Events, " ", c.Kept == int(c.Events), " ", i.Error, " ", c.Newest.Equal(began)))
			if !strings.HasSuffix(i.Upstream, "://legacy/{query.key}") {
				t.Errorf("shown as %q", i.Upstream)
			}
		}
		if want := "retrying 3 true no route to host false\nconnected 2 true  true"; strings.Join(got, "\n") != want {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
		if list := s.List(func(i *Info) bool { return i.State == Retrying }); len(list) != 1 {
			t.Errorf("%d", len(list))
		}
		events, found := s.Newest(b.Ring.Epoch(), 1, 8)
		if !found || len(events) != 1 || string(events[0]) != "data: 2\n" {
			t.Errorf("%q %v", events, found)
		}
		if _, found := s.Newest(1, 1, 8); found {
			t.Error("there is no such stream")
		}
	})
}
