package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

var (
	opened   = stream.End{}
	finished = stream.End{Kind: stream.Finished}
	refused  = stream.End{Kind: stream.Refused, Status: 403}
	retired  = stream.End{Kind: stream.Retired}
)

// awaits is the cursor of a client that waits for the history of a list.
const awaits = stream.Begin - 1

// transitions are all of next's: the cursor and the facts before, the cursor and what is to be done after. The clock stands
// at 10,000 unless the facts say otherwise.
var transitions = []struct {
	name string
	c    cursor
	f    facts
	then cursor
	want action
}{
	// The ring.
	{"nothing new", cursor{at: 3}, facts{}, cursor{at: 3}, action{}},
	{"grown", cursor{at: 3}, facts{ring: ringGrown}, cursor{at: 3}, action{do: doRead}},
	{"more than was read", cursor{at: 3, wrote: 10_000}, facts{ring: ringMore, coalesce: 50}, cursor{at: 3, wrote: 10_000}, action{do: doRead}},
	{"grown, and held back", cursor{at: 3, wrote: 9_980}, facts{ring: ringGrown, coalesce: 50},
		cursor{at: 3, wrote: 9_980}, action{timed: true, after: 30}},
	{"held back long enough", cursor{at: 3, wrote: 9_950}, facts{ring: ringGrown, coalesce: 50}, cursor{at: 3, wrote: 9_950}, action{do: doRead}},
	{"nothing new, and nothing held back", cursor{at: 3, wrote: 9_980}, facts{coalesce: 50}, cursor{at: 3, wrote: 9_980}, action{}},
	{"events", cursor{at: 3}, facts{ring: ringRead, from: 3, to: 5}, cursor{at: 3, wrote: 10_000}, action{do: doWrite}},
	{"all is written", cursor{at: 5}, facts{ring: ringRead, from: 5, to: 5}, cursor{at: 5}, action{}},
	{"where START says", cursor{at: stream.Begin}, facts{ring: ringRead, from: 7, to: 7}, cursor{at: 7}, action{}},
	{"events from there", cursor{at: stream.Begin}, facts{ring: ringRead, from: 6, to: 7}, cursor{at: 6, wrote: 10_000}, action{do: doWrite}},
	{"a history is awaited", cursor{at: stream.Begin, flags: isNew}, facts{ring: ringRead, from: awaits, to: awaits},
		cursor{at: awaits, flags: isNew}, action{}},
	{"the same for an unknown id", cursor{at: stream.Begin, flags: isLost}, facts{ring: ringRead, from: awaits, to: awaits},
		cursor{at: awaits, flags: isLost}, action{}},

	// What is said before events.
	{"the opening", cursor{at: 3, flags: isUnopened}, facts{ring: ringRead, from: 3, to: 3},
		cursor{at: 3, wrote: 10_000}, action{do: doWrite, say: sayOpening}},
	{"the opening while a history is awaited", cursor{at: stream.Begin, flags: isUnopened | isNew | isLost},
		facts{ring: ringRead, from: awaits, to: awaits}, cursor{at: awaits, wrote: 10_000, flags: isNew | isLost}, action{do: doWrite, say: sayOpening}},
	{"an unknown id", cursor{at: stream.Begin, flags: isUnopened | isLost}, facts{ring: ringRead, from: 2, to: 5},
		cursor{at: 2, wrote: 10_000}, action{do: doWrite, say: sayOpening | sayRestart}},
	{"an unknown id, which is all", cursor{at: stream.Begin, flags: isLost}, facts{ring: ringRead, from: 5, to: 5},
		cursor{at: 5, wrote: 10_000}, action{do: doWrite, say: sayRestart}},
	{"an unknown id tells what is missing", cursor{at: stream.Begin, flags: isLost}, facts{ring: ringRead, from: 2, to: 5, missed: 9},
		cursor{at: 2, wrote: 10_000}, action{do: doWrite, say: sayRestart}},
	{"missed", cursor{at: 3}, facts{ring: ringRead, from: 7, to: 9, missed: 4}, cursor{at: 7, wrote: 10_000}, action{do: doWrite, say: sayMissed}},
	{"missed, and all is evicted", cursor{at: 3}, facts{ring: ringRead, from: 9, to: 9, missed: 6}, cursor{at: 9, wrote: 10_000}, action{do: doWrite, say: sayMissed}},
	{"a gap is a place", cursor{at: 3, flags: isNew}, facts{ring: ringRead, from: 9, to: 9, missed: 6}, cursor{at: 9, wrote: 10_000}, action{do: doWrite, say: sayMissed}},
	{"a place", cursor{at: stream.Begin, flags: isUnopened | isNew}, facts{ring: ringRead, from: 4, to: 4},
		cursor{at: 4, wrote: 10_000}, action{do: doWrite, say: sayOpening | sayOpen}},
	{"a place after the history", cursor{at: awaits, flags: isNew}, facts{ring: ringRead, from: 4, to: 4},
		cursor{at: 4, wrote: 10_000}, action{do: doWrite, say: sayOpen}},
	{"an event is a place", cursor{at: 3, flags: isNew}, facts{ring: ringRead, from: 3, to: 4}, cursor{at: 3, wrote: 10_000}, action{do: doWrite}},
	{"a place in what is replaced", cursor{at: 3, flags: isNew}, facts{ring: ringRead, from: 3, to: 3, end: retired},
		cursor{at: 3, wrote: 10_000}, action{do: doWrite, say: sayOpen}},
	{"no place in what is complete", cursor{at: 3, flags: isNew}, facts{ring: ringRead, from: 3, to: 3, end: finished},
		cursor{at: 3, wrote: 10_000, flags: isNew | isClosing, why: Finished}, action{do: doLast, say: sayEnd}},

	// A terse client.
	{"missed, which only a cut tells", cursor{at: 3, traits: isTerse, flags: isReplaying}, facts{ring: ringRead, from: 7, to: 9, missed: 4},
		cursor{at: 3, wrote: 10_000, traits: isTerse, flags: isReplaying | isClosing, why: Missed}, action{do: doLast, say: sayHint}},
	{"missed before the first byte", cursor{at: 3, traits: isTerse, flags: isUnopened}, facts{ring: ringRead, from: 7, to: 9, missed: 4},
		cursor{at: 3, wrote: 10_000, traits: isTerse, flags: isClosing, why: Missed}, action{do: doLast, say: sayOpening | sayHint}},
	{"no place", cursor{at: stream.Begin, traits: isTerse, flags: isUnopened | isNew}, facts{ring: ringRead, from: 4, to: 4},
		cursor{at: 4, wrote: 10_000, traits: isTerse}, action{do: doWrite, say: sayOpening}},
	{"refused in its own words", cursor{at: 4, traits: isTerse}, facts{ring: ringRead, from: 4, to: 4, end: refused},
		cursor{at: 4, wrote: 10_000, traits: isTerse, flags: isClosing, why: Refused}, action{do: doLast, say: sayRefused}},

	// The ring's end.
	{"events before the end", cursor{at: 3}, facts{ring: ringRead, from: 3, to: 4, end: finished}, cursor{at: 3, wrote: 10_000}, action{do: doWrite}},
	{"finished", cursor{at: 4}, facts{ring: ringRead, from: 4, to: 4, end: finished},
		cursor{at: 4, wrote: 10_000, flags: isClosing, why: Finished}, action{do: doLast, say: sayEnd}},
	{"refused", cursor{at: 4}, facts{ring: ringRead, from: 4, to: 4, end: refused},
		cursor{at: 4, wrote: 10_000, flags: isClosing, why: Refused}, action{do: doLast, say: sayRefused}},
	{"retired", cursor{at: 4}, facts{ring: ringRead, from: 4, to: 4, end: retired},
		cursor{at: 4, wrote: 10_000, flags: isClosing, why: Aged}, action{do: doLast, say: sayHint}},
	{"the end counts more than a release", cursor{at: 4, flags: isLeaving, due: 9_000, why: Drained}, facts{ring: ringRead, from: 4, to: 4, end: finished},
		cursor{at: 4, wrote: 10_000, flags: isLeaving | isClosing, due: 9_000, why: Finished}, action{do: doLast, say: sayEnd}},

	// A release.
	{"not yet", cursor{at: 4, flags: isLeaving, due: 10_200, why: Aged}, facts{}, cursor{at: 4, flags: isLeaving, due: 10_200, why: Aged}, action{timed: true, after: 200}},
	{"events until then", cursor{at: 4, flags: isLeaving, due: 10_200}, facts{ring: ringGrown}, cursor{at: 4, flags: isLeaving, due: 10_200}, action{do: doRead}},
	{"with what was held back", cursor{at: 4, wrote: 9_999, flags: isLeaving, due: 10_000}, facts{coalesce: 50},
		cursor{at: 4, wrote: 9_999, flags: isLeaving, due: 10_000}, action{do: doRead}},
	{"which goes first", cursor{at: 4, flags: isLeaving, due: 9_000}, facts{ring: ringRead, from: 4, to: 6},
		cursor{at: 4, wrote: 10_000, flags: isLeaving, due: 9_000}, action{do: doWrite}},
	{"all of it", cursor{at: 4, flags: isLeaving, due: 9_000}, facts{ring: ringMore}, cursor{at: 4, flags: isLeaving, due: 9_000}, action{do: doRead}},
	{"released", cursor{at: 4, flags: isLeaving, due: 9_000, why: Drained}, facts{ring: ringRead, from: 4, to: 4},
		cursor{at: 4, wrote: 10_000, flags: isLeaving | isClosing, due: 9_000, why: Drained}, action{do: doLast, say: sayHint}},
	{"released while a history is awaited", cursor{at: awaits, flags: isLeaving | isNew, due: 9_000, why: Aged}, facts{ring: ringRead, from: awaits, to: awaits},
		cursor{at: awaits, wrote: 10_000, flags: isLeaving | isNew | isClosing, due: 9_000, why: Aged}, action{do: doLast, say: sayHint}},
	{"before a heartbeat", cursor{at: 4, flags: isLeaving, due: 9_000, why: Aged}, facts{ring: ringRead, from: 4, to: 4, silence: 500},
		cursor{at: 4, wrote: 10_000, flags: isLeaving | isClosing, due: 9_000, why: Aged}, action{do: doLast, say: sayHint}},

	// Heartbeats.
	{"silence", cursor{at: 4, wrote: 9_500}, facts{silence: 500}, cursor{at: 4, wrote: 10_000}, action{do: doSay, say: sayBeat}},
	{"not silent for long", cursor{at: 4, wrote: 9_501}, facts{silence: 500}, cursor{at: 4, wrote: 9_501}, action{timed: true, after: 1}},
	{"events first", cursor{at: 4, wrote: 9_500}, facts{silence: 500, ring: ringGrown}, cursor{at: 4, wrote: 9_500}, action{do: doRead}},
	{"a heartbeat while events are held back", cursor{at: 4, wrote: 9_900}, facts{silence: 100, coalesce: 500, ring: ringGrown},
		cursor{at: 4, wrote: 10_000}, action{do: doSay, say: sayBeat}},
	{"while a history is awaited", cursor{at: awaits, wrote: 9_500}, facts{silence: 500, ring: ringRead, from: awaits, to: awaits},
		cursor{at: awaits, wrote: 10_000}, action{do: doSay, say: sayBeat}},
	{"an event", cursor{at: 4, wrote: 9_500, flags: isBeating}, facts{silence: 500}, cursor{at: 4, wrote: 10_000, flags: isBeating}, action{do: doSay, say: sayBeatEvent}},
	{"the first does not wait for silence", cursor{at: 4, wrote: 9_999, flags: isBeating | isFresh}, facts{silence: 500, first: 10_000},
		cursor{at: 4, wrote: 10_000, flags: isBeating}, action{do: doSay, say: sayBeatEvent}},
	{"nor does silence bring it sooner", cursor{at: 4, wrote: 0, flags: isBeating | isFresh}, facts{silence: 500, first: 10_001},
		cursor{at: 4, wrote: 0, flags: isBeating | isFresh}, action{timed: true, after: 1}},
	{"none", cursor{at: 4, flags: isBeating | isFresh}, facts{first: 9_000}, cursor{at: 4, flags: isBeating | isFresh}, action{}},
	{"the earliest of what is due: a heartbeat", cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_100}, facts{silence: 150, coalesce: 190, ring: ringGrown},
		cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_100}, action{timed: true, after: 50}},
	{"the release", cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_020}, facts{silence: 150, coalesce: 190, ring: ringGrown},
		cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_020}, action{timed: true, after: 20}},
	{"what is held back", cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_100}, facts{silence: 150, coalesce: 110, ring: ringGrown},
		cursor{at: 4, wrote: 9_900, flags: isLeaving, due: 10_100}, action{timed: true, after: 10}},

	// A turn.
	{"what was there before it takes a turn", cursor{at: 3, flags: isReplaying | isUnopened | isLost}, facts{ring: ringRead, from: 3, to: 5, missed: 2},
		cursor{at: 3, flags: isReplaying | isUnopened | isLost}, action{do: doTurn}},
	{"which it has", cursor{at: 3, flags: isReplaying | isTurn | isUnopened}, facts{ring: ringRead, from: 3, to: 5},
		cursor{at: 3, wrote: 10_000, flags: isReplaying}, action{do: doWrite, say: sayOpening}},
	{"it is opened while it waits", cursor{at: 3, flags: isReplaying | isQueued | isUnopened, turn: 10_050}, facts{ring: ringRead, from: 3, to: 5},
		cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued, turn: 10_050}, action{do: doSay, say: sayOpening}},
	{"and waits", cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued, turn: 10_050}, facts{ring: ringGrown, silence: 500},
		cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued, turn: 10_050}, action{timed: true, after: 50}},
	{"with heartbeats", cursor{at: 3, wrote: 9_500, flags: isReplaying | isQueued, turn: 10_050}, facts{ring: ringGrown, silence: 500},
		cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued, turn: 10_050}, action{do: doSay, say: sayBeat}},
	{"and its release", cursor{at: 3, flags: isReplaying | isQueued | isLeaving, due: 10_000, turn: 10_050, why: Drained}, facts{ring: ringGrown},
		cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued | isLeaving | isClosing, due: 10_000, turn: 10_050, why: Drained}, action{do: doLast, say: sayHint}},
	{"which may come first", cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued | isLeaving, due: 10_020, turn: 10_050}, facts{ring: ringGrown},
		cursor{at: 3, wrote: 10_000, flags: isReplaying | isQueued | isLeaving, due: 10_020, turn: 10_050}, action{timed: true, after: 20}},
	{"it asks again", cursor{at: 3, flags: isReplaying | isQueued, turn: 10_000}, facts{ring: ringGrown}, cursor{at: 3, flags: isReplaying | isQueued, turn: 10_000}, action{do: doRead}},
	{"nothing was there before it", cursor{at: 5, flags: isReplaying | isUnopened | isNew}, facts{ring: ringRead, from: 5, to: 5},
		cursor{at: 5, wrote: 10_000}, action{do: doWrite, say: sayOpening | sayOpen}},
	{"it has caught up", cursor{at: 5}, facts{ring: ringRead, from: 5, to: 6}, cursor{at: 5, wrote: 10_000}, action{do: doWrite}},
	{"a history that is awaited is to come", cursor{at: stream.Begin, flags: isReplaying}, facts{ring: ringRead, from: awaits, to: awaits},
		cursor{at: awaits, flags: isReplaying}, action{}},

	// The end of a pass.
	{"revoked", cursor{at: 4, flags: isGuarded}, facts{ring: ringGrown, stands: 401}, cursor{at: 4, wrote: 10_000, flags: isGuarded | isClosing, why: Revoked}, action{do: doLast, say: sayRefused}},
	{"whatever was read", cursor{at: 4}, facts{ring: ringRead, from: 4, to: 6, stands: 403}, cursor{at: 4, wrote: 10_000, flags: isClosing, why: Revoked}, action{do: doLast, say: sayRefused}},
	{"before anything else is said", cursor{at: 4, flags: isUnopened | isLost | isNew}, facts{ring: ringGrown, stands: 401},
		cursor{at: 4, wrote: 10_000, flags: isLost | isNew | isClosing, why: Revoked}, action{do: doLast, say: sayOpening | sayRefused}},
	{"it means something else now", cursor{at: 4}, facts{ring: ringGrown, stands: access.ComeBack},
		cursor{at: 4, wrote: 10_000, flags: isClosing, why: Expired}, action{do: doLast, say: sayHint}},
	{"revoked while it waits for its release", cursor{at: 4, flags: isLeaving, due: 10_200, why: Drained}, facts{stands: 401},
		cursor{at: 4, wrote: 10_000, flags: isLeaving | isClosing, due: 10_200, why: Revoked}, action{do: doLast, say: sayRefused}},
	{"revoked while bytes wait", cursor{at: 4, flags: isBlocked}, facts{ring: ringGrown, stands: 401},
		cursor{at: 4, flags: isBlocked | isClosing | isParting, due: 10_100, why: Revoked}, action{do: doPart, timed: true, after: 100}},
	{"revoked after its last words", cursor{at: 4, flags: isClosing, why: Finished}, facts{stands: 401}, cursor{at: 4, flags: isClosing | isOver, why: Finished}, action{do: doFinish}},
	{"revoked in its last moment", cursor{at: 4, flags: isClosing | isParting, due: 10_001, why: Revoked}, facts{stands: 401},
		cursor{at: 4, flags: isClosing | isParting, due: 10_001, why: Revoked}, action{timed: true, after: 1}},

	// Bytes that wait.
	{"blocked", cursor{at: 4, flags: isBlocked}, facts{ring: ringGrown, silence: 1}, cursor{at: 4, flags: isBlocked}, action{}},
	{"blocked until its release", cursor{at: 4, flags: isBlocked | isLeaving, due: 10_300}, facts{ring: ringGrown},
		cursor{at: 4, flags: isBlocked | isLeaving, due: 10_300}, action{timed: true, after: 300}},
	{"released as it is", cursor{at: 4, flags: isBlocked | isLeaving, due: 10_000, why: Drained}, facts{ring: ringGrown},
		cursor{at: 4, flags: isBlocked | isLeaving | isClosing | isParting, due: 10_100, why: Drained}, action{do: doPart, timed: true, after: 100}},
	{"last words that wait", cursor{at: 4, flags: isBlocked | isClosing, why: Finished}, facts{}, cursor{at: 4, flags: isBlocked | isClosing, why: Finished}, action{}},
	{"last words that wait, after a release", cursor{at: 4, flags: isBlocked | isClosing | isLeaving, due: 9_000, why: Aged}, facts{},
		cursor{at: 4, flags: isBlocked | isClosing | isLeaving, due: 9_000, why: Aged}, action{}},

	// The end.
	{"complete", cursor{at: 4, flags: isClosing, why: Finished}, facts{}, cursor{at: 4, flags: isClosing | isOver, why: Finished}, action{do: doFinish}},
	{"last words are given a moment", cursor{at: 4, flags: isClosing, why: Refused}, facts{},
		cursor{at: 4, flags: isClosing | isParting, due: 10_100, why: Refused}, action{do: doPart, timed: true, after: 100}},
	{"in which nothing more is written", cursor{at: 4, flags: isClosing | isParting, due: 10_001}, facts{ring: ringGrown, silence: 1},
		cursor{at: 4, flags: isClosing | isParting, due: 10_001}, action{timed: true, after: 1}},
	{"cut", cursor{at: 4, flags: isClosing | isParting, due: 10_000, why: Aged}, facts{},
		cursor{at: 4, flags: isClosing | isParting | isOver, due: 10_000, why: Aged}, action{do: doCut}},
	{"cut with what waits", cursor{at: 4, flags: isBlocked | isClosing | isParting, due: 10_000, why: Aged}, facts{},
		cursor{at: 4, flags: isBlocked | isClosing | isParting | isOver, due: 10_000, why: Aged}, action{do: doCut}},
	{"a clean end", cursor{at: 4, flags: isClean | isClosing | isParting, due: 10_000, why: Refused}, facts{},
		cursor{at: 4, flags: isClean | isClosing | isParting | isOver, due: 10_000, why: Refused}, action{do: doFinish}},
	{"over", cursor{at: 4, flags: isOver | isLeaving, due: 9_000}, facts{ring: ringGrown, silence: 1}, cursor{at: 4, flags: isOver | isLeaving, due: 9_000}, action{}},

	// A clock that wraps.
	{"silence across the wrap", cursor{at: 4, wrote: 1<<32 - 400}, facts{now: 100, silence: 500}, cursor{at: 4, wrote: 100}, action{do: doSay, say: sayBeat}},
	{"a release beyond the wrap", cursor{at: 4, flags: isLeaving, due: 50}, facts{now: 1<<32 - 50}, cursor{at: 4, flags: isLeaving, due: 50}, action{timed: true, after: 100}},
	{"silent for weeks, without heartbeats", cursor{at: 4, wrote: 0}, facts{now: 3 << 30, ring: ringGrown, coalesce: 50}, cursor{at: 4, wrote: 0}, action{do: doRead}},
}

func TestTransitions(t *testing.T) {
	for _, tr := range transitions {
		if tr.f.now == 0 {
			tr.f.now = 10_000
		}
		before := tr.f
		then := tr.c
		got := then.next(&tr.f)
		if then != tr.then || got != tr.want {
			t.Errorf("%s:\n got %+v, %+v\nwant %+v, %+v", tr.name, then, got, tr.then, tr.want)
		}
		if tr.f != before {
			t.Errorf("%s: the facts became %+v", tr.name, tr.f)
		}
	}
}

// TestCursorEvents are what a writer reports, and what is known of a client when it comes.
func TestCursorEvents(t *testing.T) {
	route := &Pacing{Coalesce: 50 * time.Millisecond}
	after := func(c cursor, do func(*cursor)) cursor {
		do(&c)
		return c
	}
	for name, c := range map[string]struct{ got, want cursor }{
		"new":              {newCursor(&Client{Route: route, Cursor: stream.Begin}, 100), cursor{at: stream.Begin, wrote: 50, flags: isUnopened | isReplaying | isNew}},
		"with an id":       {newCursor(&Client{Route: route, Cursor: 7, LastID: "x"}, 100), cursor{at: 7, wrote: 50, flags: isUnopened | isReplaying}},
		"with an old id":   {newCursor(&Client{Route: route, LastID: "x", Lost: true}, 100), cursor{wrote: 50, flags: isUnopened | isReplaying | isLost}},
		"wants heartbeats": {newCursor(&Client{Route: route, LastID: "x", Beats: true}, 100), cursor{wrote: 50, flags: isUnopened | isReplaying | isBeating | isFresh}},
		"has got two":      {after(cursor{at: 3}, func(c *cursor) { c.took(&facts{from: 5, to: 9}, 2) }), cursor{at: 7}},
		"has caught up":    {after(cursor{at: 3, flags: isReplaying}, func(c *cursor) { c.took(&facts{from: 5, to: 9}, 4) }), cursor{at: 9}},
		"has more to get":  {after(cursor{at: 3, flags: isReplaying}, func(c *cursor) { c.took(&facts{from: 5, to: 9, more: true}, 4) }), cursor{at: 9, flags: isReplaying}},
		"is blocked in it": {after(cursor{at: 3, flags: isReplaying}, func(c *cursor) { c.took(&facts{from: 5, to: 9}, 3) }), cursor{at: 8, flags: isReplaying}},
		"has its turn":     {after(cursor{flags: isReplaying | isQueued, turn: 5}, func(c *cursor) { c.queue(9, 0) }), cursor{flags: isReplaying | isTurn, turn: 5}},
		"has not":          {after(cursor{flags: isReplaying}, func(c *cursor) { c.queue(9, time.Second) }), cursor{flags: isReplaying | isQueued, turn: 1009}},
		"is to leave":      {after(cursor{}, func(c *cursor) { c.leaves(Aged, 9) }), cursor{flags: isLeaving, why: Aged, due: 9}},
		"takes again":      {after(cursor{flags: isBlocked | isClosing, wrote: 3}, func(c *cursor) { c.freed(9) }), cursor{flags: isClosing, wrote: 9}},
		"is disconnected":  {after(cursor{flags: isBlocked}, func(c *cursor) { c.disconnected(Stalled) }), cursor{flags: isBlocked | isOver, why: Stalled}},
		"has left":         {after(cursor{why: Aged, flags: isLeaving}, (*cursor).left), cursor{why: Left, flags: isLeaving | isOver}},
		"left in its time": {after(cursor{why: Refused, flags: isParting}, (*cursor).left), cursor{why: Refused, flags: isParting | isOver}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
	for _, c := range []struct {
		c    cursor
		why  uint8
		want bool
	}{
		{cursor{}, Aged, true}, {cursor{flags: isLeaving, why: Aged}, Aged, false}, {cursor{flags: isLeaving, why: Aged}, Drained, true},
		{cursor{flags: isClosing, why: Refused}, Drained, false}, {cursor{flags: isBlocked}, Drained, true}, {cursor{flags: isOver}, Drained, false},
	} {
		if got := c.c.mayLeave(c.why); got != c.want {
			t.Errorf("%+v may leave for %s: %v", c.c, Reasons[c.why], got)
		}
	}
	f := facts{ring: ringRead, from: 3, to: 5, missed: 2}
	if f.written(); f != (facts{ring: ringRead, from: 5, to: 5}) {
		t.Errorf("%+v", f)
	}
	f.more = true
	if f.written(); f.ring != ringMore {
		t.Errorf("%+v", f)
	}
}

// TestCursorIsSmall: without pointers for the collector, and no larger than it has to be.
func TestCursorIsSmall(t *testing.T) {
	typ := reflect.TypeFor[cursor]()
	if typ.Size() > 24 {
		t.Errorf("%d bytes", typ.Size())
	}
	for f := range typ.Fields() {
		if k := f.Type.Kind(); k < reflect.Bool || k > reflect.Uint64 {
			t.Errorf("%s is a %v", f.Name, k)
		}
	}
}

// TestCursorsOfAllSorts has next lead clients through rings of all sorts, with a writer that blocks now and then: each gets
// every event once, in order, and comes to an end.
func TestCursorsOfAllSorts(t *testing.T) {
	for range 5000 {
		ring, oldest := uint64(rand.IntN(20)), uint64(0)
		c := newCursor(&Client{Route: &Pacing{}, Cursor: uint64(rand.IntN(int(ring + 1))), LastID: []string{"", "x"}[rand.IntN(2)], Lost: rand.IntN(4) == 0}, 0)
		got, now, end, openings, last, seen := c.at, tick(0), opened, 0, 0, 0
		for steps := 0; c.flags&isOver == 0; steps++ {
			if steps > 5000 {
				t.Fatalf("it does not end: %+v", c)
			}
			switch rand.IntN(6) {
			case 0:
				if end == opened {
					ring += uint64(rand.IntN(4))
				}
			case 1:
				oldest = min(ring, oldest+uint64(rand.IntN(3)))
			case 2:
				if steps > 50 && end == opened {
					end = []stream.End{finished, refused, retired, opened}[rand.IntN(4)]
				}
			case 3:
				if c.mayLeave(Drained) && steps > 100 {
					c.leaves(Drained, now+tick(rand.IntN(100)))
				}
			case 4:
				if c.flags&(isBlocked|isParting) == isBlocked {
					c.freed(now)
				}
			}
			f := facts{now: now, silence: 40, coalesce: tick(rand.IntN(3)), ring: ringGrown}
			for again := true; again; {
				var a action
				switch a = c.next(&f); a.do {
				case doRead:
					f.from = max(c.at, oldest)
					f.to = min(ring, f.from+uint64(rand.IntN(3)))
					f.ring, f.missed, f.more, f.end = ringRead, f.from-c.at, f.to < ring, opened
					if !f.more {
						f.end = end
					}
				case doWrite:
					if a.say&sayOpening != 0 {
						openings++
					}
					if f.missed > 0 && a.say&(sayMissed|sayRestart) == 0 {
						t.Fatal("a gap is not reported")
					}
					if f.missed == 0 && got != f.from {
						t.Fatalf("events after %d, of a client that has got %d", f.from, got)
					}
					n := f.to - f.from
					if rand.IntN(5) == 0 {
						n = rand.Uint64N(n + 1)
						c.flags |= isBlocked
					}
					c.took(&f, n)
					got, seen = f.from+n, seen+1
					f.written()
				case doTurn:
					c.queue(now, time.Duration(rand.IntN(20))*time.Millisecond)
				case doLast:
					if last++; rand.IntN(5) == 0 {
						c.flags |= isBlocked
					}
				case doSay:
					if a.say&sayOpening != 0 {
						openings++
					}
				default:
					again = false
					if a.do != doWait {
						break
					}
					if a.timed && a.after == 0 {
						t.Fatalf("it waits for nothing: %+v, %+v", c, f)
					}
				}
			}
			now += tick(rand.IntN(20))
		}
		if openings != 1 || last > 1 || c.flags&isClosing == 0 {
			t.Fatalf("%d openings, %d last words: %+v", openings, last, c)
		}
		if c.why == Finished && got != ring {
			t.Fatalf("complete at %d of %d", got, ring)
		}
	}
}

// TestCopy: what a ring has, its gaps, and how it ends.
func TestCopy(t *testing.T) {
	for _, end := range []stream.End{finished, refused, retired} {
		synctest.Test(t, func(t *testing.T) {
			var stats stream.Stats
			ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 2}, &stats, false)
			ring.Append(say("1"), say("2"), say("3"))
			var out strings.Builder
			ended := make(chan stream.End)
			go func() { // ends with ring
				end, err := Copy(t.Context(), ring, 0, &out)
				if err != nil {
					t.Error(err)
				}
				ended <- end
			}()
			synctest.Wait()
			ring.Append(say("4"))
			synctest.Wait()
			ring.Append(translate.Message{Data: []byte("5")})
			ring.Close(end)
			if got := <-ended; got != end {
				t.Errorf("it ended with %v, want %v", got, end)
			}
			want := strings.ReplaceAll("event: stream.gap\ndata: {\"reason\":\"evicted\",\"missed\":1}\nid: #-1\n\n"+
				"data: 2\nid: #-2\n\ndata: 3\nid: #-3\n\ndata: 4\nid: #-4\n\ndata: 5\nid: #-5\n\n", "#", ring.Epoch().String())
			if out.String() != want {
				t.Errorf("got %q, want %q", out.String(), want)
			}
		})
	}
	ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if end, err := Copy(ctx, ring, 0, nil); end != opened || err != nil {
		t.Errorf("the context is done: %v, %v", end, err)
	}
	ring.Append(say("1"))
	if _, err := Copy(t.Context(), ring, 0, full{}); !errors.Is(err, errNoSpace) {
		t.Errorf("it does not say that it cannot write: %v", err)
	}
}

var errNoSpace = errors.New("no space")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errNoSpace }
