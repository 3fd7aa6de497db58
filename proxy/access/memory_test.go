package access

import (
	"fmt"
	"testing"
	"time"
)

// What is remembered is bounded by number and by time; what is forgotten for lack of room counts for all that is older.
func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	at := time.Now()
	for i := range revokedMost + 2 {
		at = at.Add(time.Second)
		m.Revoke(Revocation{Auth: map[string]string{"sub": fmt.Sprint(i)}, At: at}, nil)
	}
	if len(m.list) != revokedMost || !m.floor.Equal(m.list[0].At.Add(-time.Second)) {
		t.Errorf("%d are remembered, and what is older than %v", len(m.list), m.floor)
	}
	g := New(Settings{}, nil)
	m.Teach(g, "a")
	if len(g.revoked.list) != revokedMost || !g.revoked.floor.Equal(m.floor) || g.orders.Load() != revokedMost {
		t.Errorf("a guard knows of %d, and %v", len(g.revoked.list), g.revoked.floor)
	}
	m.Revoke(Revocation{At: at.Add(revokedTime + time.Second)}, nil)
	if len(m.list) != 1 {
		t.Errorf("a day later %d are remembered", len(m.list))
	}
}
