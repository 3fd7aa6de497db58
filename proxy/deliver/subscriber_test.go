//go:build linux && !portable

package deliver

import (
	"testing"
	"unsafe"
)

// With many clients an event costs little more than reading from memory what is known of each.
func TestSubscriberFillsTwoLines(t *testing.T) {
	if size := unsafe.Sizeof(subscriber{}); unsafe.Sizeof(uintptr(0)) == 8 && size != 128 {
		t.Errorf("%d bytes: whatever it has beside those is read for each event, or costs 16 bytes of every client", size)
	}
}
