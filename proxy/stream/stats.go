package stream

import (
	"sync/atomic"

	"sidestream/translate"
)

// Stats counts what the rings of a route do. Each is a total since the start.
type Stats struct {
	Events  atomic.Int64
	Bytes   atomic.Int64 // encoded
	Gaps    [4]atomic.Int64
	Refused atomic.Int64 // streams that the upstream refused, at first or later

	Sent       atomic.Int64 // clients' messages that were written to the upstream
	SendFailed atomic.Int64 // those that could not be
}

// GapReasons names the entries of Stats.Gaps.
var GapReasons = [4]string{translate.GapUpstream, translate.GapEvicted, translate.GapRestart, translate.GapHistory}

// CountGap counts a gap that was made for one client.
func (r *Ring) CountGap(reason string) { r.stats.gap(reason) }

func (s *Stats) gap(reason string) {
	for i, known := range GapReasons {
		if known == reason {
			s.Gaps[i].Add(1)
		}
	}
}
