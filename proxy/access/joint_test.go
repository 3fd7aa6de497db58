package access

import (
	"testing"
	"time"
)

// A joint pass ends with the first of those that it stands for, and counts its client in each.
func TestJoin(t *testing.T) {
	now := time.Now()
	for i := range 2 {
		passes := []*Pass{NewPass(time.Time{}), NewPass(now.Add(time.Hour)), nil}
		whole, leave := Join(passes, now.Add(2*time.Hour))
		if !whole.Until().Equal(now.Add(time.Hour)) || whole.Standing() != Stays || passes[0].present() != 1 {
			t.Fatalf("until %v, %v, %d clients", whole.Until(), whole.Standing(), passes[0].present())
		}
		if passes[i].End(401); whole.Standing() != ComeBack {
			t.Errorf("it stands %v after one has ended", whole.Standing())
		}
		leave()
		if passes[0].present() != 0 || len(passes[1-i].watchers) != 0 {
			t.Error("its client is counted still")
		}
	}
	over := NewPass(time.Time{})
	over.End(403)
	if whole, leave := Join([]*Pass{over}, time.Time{}); whole.Standing() != ComeBack || !whole.Until().IsZero() {
		t.Error("one that had ended before does not count")
	} else {
		leave()
	}
}
