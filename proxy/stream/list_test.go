package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Streams that need somebody are first; of each its state, and nothing of what its client has confided.
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
		list, all := s.List(func(*Info) bool { return true }, 10)
		var got []string
		for _, i := range list {
			got = append(got, fmt.Sprint(i.State, i.Clients, i.Events, i.Kept > 0, i.Error, i.Newest.Equal(began)))
			if !strings.HasSuffix(i.Upstream, "://legacy/{query.key}") {
				t.Errorf("shown as %q", i.Upstream)
			}
		}
		if want := "retrying1 3 trueno route to hostfalse\nconnected2 2 truetrue"; strings.Join(got, "\n") != want {
			t.Errorf("%d:\n%s", all, strings.Join(got, "\n"))
		}
		list, all = s.List(func(i *Info) bool { return i.Clients > 0 }, 1)
		if all != 2 || len(list) != 1 || list[0].State != Retrying {
			t.Errorf("%d of %d: %+v", len(list), all, list)
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
