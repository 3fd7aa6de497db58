// This file is the patches between successive JSON documents (RFC 6902). The rules:
//
//   - The first document is a "snapshot" event, each later one a "patch" event that makes it of the one before, or nothing when
//     they are equal. A patch that is not smaller than its document is sent as a snapshot.
//   - Operations are add, remove, replace and move, in the order in which they are to be applied; pointers are those of
//     RFC 6901.
//   - Lists of objects are compared by the key of each, so that an element that moves is moved and one that changes is
//     changed where it stands. Lists without a key for every element, or with the same one twice, are compared place by
//     place, between what they have in common at both ends.
//   - Numbers are compared as they are written, and objects have no order.

package translate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/itchyny/gojq"

	"sidestream/translate/jq"
)

// Names of the events of a patched document.
const (
	EventSnapshot = "snapshot"
	EventPatch    = "patch"
)

// maxKeyed is how many elements of a list are compared by key: moving one costs as much as the list is long.
const maxKeyed = 20000

// Patcher makes events of the versions of one document. It is not safe for concurrent use.
type Patcher struct {
	key  *Code
	last any
	has  bool
}

// NewPatcher returns a Patcher without a version yet. key finds the key of a list's element; nil: lists have none.
func NewPatcher(key *Code) *Patcher { return &Patcher{key: key} }

// Restore makes doc the last version. An error wraps [ErrSaved].
func (p *Patcher) Restore(doc []byte) error {
	last, err := ParseJSON(doc)
	if err != nil {
		return fmt.Errorf("%w: no document", ErrSaved)
	}
	p.last, p.has = last, true
	return nil
}

// Next returns the event that leads to m's data, or none when the data is what it was. An error wraps [ErrPayload] when
// it is not JSON; *[ProgramError] when the key's program was cut by ctx. Then nothing has changed.
func (p *Patcher) Next(ctx context.Context, m Message) ([]Message, error) {
	doc, err := ParseJSON(m.Data)
	if err != nil {
		return nil, fmt.Errorf("%w %w", ErrPayload, err)
	}
	var text bytes.Buffer
	if err := json.Compact(&text, m.Data); err != nil {
		return nil, fmt.Errorf("%w %w", ErrPayload, errNotJSON)
	}
	made := Message{Event: EventSnapshot, Topic: m.Topic, Data: text.Bytes(), State: text.Bytes()}
	if !p.has {
		p.last, p.has = doc, true
		return []Message{made}, nil
	}
	d := differ{ctx: ctx, key: p.key, most: text.Len()}
	d.out = append(d.out, '[')
	err = d.value(p.last, doc)
	switch {
	case errors.Is(err, errLarge):
	case err != nil:
		return nil, err
	case len(d.out) == 1:
		p.last = doc
		return nil, nil
	default:
		made.Event, made.Data = EventPatch, append(d.out, ']')
	}
	p.last = doc
	return []Message{made}, nil
}

var errLarge = errors.New("the patch is as large as the document")

// differ writes the operations of one patch.
type differ struct {
	ctx  context.Context
	key  *Code
	most int    // bytes
	path []byte // of the value being compared, as a JSON Pointer
	out  []byte // the patch so far

	compared int
}

// at runs f with the path one step longer.
func (d *differ) at(step string, f func() error) error {
	n := len(d.path)
	d.path = append(d.path, '/')
	d.path = append(d.path, pointer.Replace(step)...)
	err := f()
	d.path = d.path[:n]
	return err
}

// pointer escapes a reference token (RFC 6901, section 3).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// op writes one operation on the present path. from is only for moves, value not for moves and removals.
func (d *differ) op(name, from string, value any, valued bool) error {
	if len(d.out) > 1 {
		d.out = append(d.out, ',')
	}
	d.out = append(append(d.out, `{"op":"`...), name...)
	if from != "" {
		d.out = append(d.out, `","from":`...)
		d.out = appendString(d.out, from)
		d.out = append(d.out, `,"path":`...)
	} else {
		d.out = append(d.out, `","path":`...)
	}
	d.out = appendString(d.out, string(d.path))
	if valued {
		text, err := gojq.Marshal(value)
		if err != nil {
			return err
		}
		d.out = append(append(d.out, `,"value":`...), text...)
	}
	d.out = append(d.out, '}')
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if len(d.out) >= d.most {
		return errLarge
	}
	return nil
}

func appendString(dst []byte, s string) []byte {
	text, _ := gojq.Marshal(s) // no string fails
	return append(dst, text...)
}

// value compares what stands at the present path.
func (d *differ) value(was, now any) error {
	switch now := now.(type) {
	case map[string]any:
		if was, ok := was.(map[string]any); ok {
			return d.object(was, now)
		}
	case []any:
		if was, ok := was.([]any); ok {
			return d.list(was, now)
		}
	default:
		if was == now { // neither is a map or a list here, or they differ in type
			return nil
		}
	}
	return d.op("replace", "", now, true)
}

func (d *differ) object(was, now map[string]any) error {
	names := make([]string, 0, len(was)+len(now))
	for name := range was {
		names = append(names, name)
	}
	for name := range now {
		if _, both := was[name]; !both {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		err := d.at(name, func() error {
			old, had := was[name]
			v, has := now[name]
			switch {
			case !has:
				return d.op("remove", "", nil, false)
			case !had:
				return d.op("add", "", v, true)
			}
			return d.value(old, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) list(was, now []any) error {
	wasKeys, ok, err := d.keys(was)
	if err != nil {
		return err
	}
	if ok {
		nowKeys, ok, err := d.keys(now)
		if err != nil {
			return err
		}
		if ok {
			return d.keyed(was, now, wasKeys, nowKeys)
		}
	}
	return d.places(was, now)
}

// keys are those of a list's elements; false when one has none, or the same one as another.
func (d *differ) keys(list []any) ([]string, bool, error) {
	if d.key == nil || len(list) > maxKeyed {
		return nil, false, nil
	}
	keys, seen := make([]string, len(list)), make(map[string]bool, len(list))
	for i, element := range list {
		if _, object := element.(map[string]any); !object {
			return nil, false, nil
		}
		v, ok, err := d.key.first(d.ctx, element, noKnowledge)
		if d.ctx.Err() != nil {
			return nil, false, &ProgramError{d.key.setting, d.ctx.Err()}
		}
		if err != nil || !ok || v == nil {
			return nil, false, nil
		}
		text, err := jq.Marshal(v)
		if err != nil || seen[string(text)] {
			return nil, false, nil
		}
		keys[i] = string(text)
		seen[keys[i]] = true
	}
	return keys, true, nil
}

// noKnowledge is what a program knows beside its input where there is no message.
var noKnowledge = make([]any, len(variables))

// keyed removes what is missing, puts every new or displaced element after the one it follows, and then compares each
// with what it was. Elements whose order among each other has not changed stay where they are, as many as possible.
func (d *differ) keyed(was, now []any, wasKeys, nowKeys []string) error {
	place := make(map[string]int, len(nowKeys))
	for i, k := range nowKeys {
		place[k] = i
	}
	old := make(map[string]any, len(was))
	work := slices.Clone(wasKeys)
	for i := len(wasKeys) - 1; i >= 0; i-- {
		old[wasKeys[i]] = was[i]
		if _, stays := place[wasKeys[i]]; stays {
			continue
		}
		work = slices.Delete(work, i, i+1)
		if err := d.at(strconv.Itoa(i), func() error { return d.op("remove", "", nil, false) }); err != nil {
			return err
		}
	}
	steady := longestRising(work, place)
	to := 0 // where the next element belongs
	for i, k := range nowKeys {
		if _, had := old[k]; had && steady[k] {
			to = slices.Index(work[to:], k) + to + 1
			continue
		}
		var err error
		if work, to, err = d.put(work, k, to, old, now[i]); err != nil {
			return err
		}
	}
	for i, k := range nowKeys {
		if v, had := old[k]; had {
			if err := d.at(strconv.Itoa(i), func() error { return d.value(v, now[i]) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// put brings the element with key k to place to of work: it is moved there, or added. It returns the place after it.
func (d *differ) put(work []string, k string, to int, old map[string]any, v any) ([]string, int, error) {
	if _, had := old[k]; !had {
		work = slices.Insert(work, to, k)
		return work, to + 1, d.at(strconv.Itoa(to), func() error { return d.op("add", "", v, true) })
	}
	from := slices.Index(work, k)
	work = slices.Delete(work, from, from+1)
	if from < to {
		to--
	}
	work = slices.Insert(work, to, k)
	source := string(d.path) + "/" + strconv.Itoa(from)
	return work, to + 1, d.at(strconv.Itoa(to), func() error { return d.op("move", source, nil, false) })
}

// longestRising is a longest selection of keys that already stand in the order that place gives them (patience sorting).
func longestRising(keys []string, place map[string]int) map[string]bool {
	var tails []int // tails[n]: index of the last key of the best selection of n+1
	before := make([]int, len(keys))
	for i, k := range keys {
		n := sort.Search(len(tails), func(n int) bool { return place[keys[tails[n]]] >= place[k] })
		before[i] = -1
		if n > 0 {
			before[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	chosen := make(map[string]bool, len(tails))
	if len(tails) == 0 {
		return chosen
	}
	for i := tails[len(tails)-1]; i >= 0; i = before[i] {
		chosen[keys[i]] = true
	}
	return chosen
}

// places compares what lies between the common ends of two lists.
func (d *differ) places(was, now []any) error {
	start := 0
	for start < len(was) && start < len(now) && d.equal(was[start], now[start]) {
		start++
	}
	end := 0
	for end < len(was)-start && end < len(now)-start && d.equal(was[len(was)-1-end], now[len(now)-1-end]) {
		end++
	}
	both := min(len(was), len(now)) - end
	for i := start; i < both; i++ {
		if err := d.at(strconv.Itoa(i), func() error { return d.value(was[i], now[i]) }); err != nil {
			return err
		}
	}
	for i := len(was) - end - 1; i >= max(both, start); i-- {
		if err := d.at(strconv.Itoa(i), func() error { return d.op("remove", "", nil, false) }); err != nil {
			return err
		}
	}
	for i := max(both, start); i < len(now)-end; i++ {
		if err := d.at(strconv.Itoa(i), func() error { return d.op("add", "", now[i], true) }); err != nil {
			return err
		}
	}
	return nil
}

// equal reports whether two parsed values are the same; numbers are compared as they are written. Once the time has run out nothing is
// equal any more, and the next operation returns the error.
func (d *differ) equal(a, b any) bool {
	if d.compared++; d.compared%1024 == 0 && d.ctx.Err() != nil {
		d.most = 0
	}
	if d.most == 0 {
		return false
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if w, ok := b[name]; !ok || !d.equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, d.equal)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}
