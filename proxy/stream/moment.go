package stream

import "time"

// moment is a time by this process's own clock, which nobody sets: nanoseconds after or before clockStart. Rings keep many, so it is small.
type moment int64

var clockStart = time.Now()

func now() moment { return moment(time.Since(clockStart)) }

// longAgo is what nobody asks for more than, and leaves room to count with: what a store holds may say any time.
const longAgo = 100 * 365 * 24 * time.Hour

// momentOf is t as a moment, which it was as long ago as its own clock says, but not more than longAgo, nor is it to come.
func momentOf(t time.Time) moment {
	now := time.Now()
	return moment(now.Sub(clockStart) - min(max(now.Sub(t), 0), longAgo))
}

// time is m for comparing with others of this process.
func (m moment) time() time.Time { return clockStart.Add(time.Duration(m)) }

// wall is m by the clock that the machine shows now.
func (m moment) wall() time.Time {
	now := time.Now()
	return now.Add(time.Duration(m) - now.Sub(clockStart))
}
