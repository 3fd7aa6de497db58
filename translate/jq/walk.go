package jq

import (
	"encoding/json"
	"math/big"
	"reflect"
	"unsafe"
)

// walk adds up what values take in memory, each byte of it once: values share parts, and parts of lists and strings share their
// memory. The zero value has seen nothing.
type walk struct {
	bytes int
	most  int // where it may stop
	looks int // at pages
	seen  map[uintptr]*page
	large map[uintptr]int // what is longer than a page, whose length has been seen
	maps  map[uintptr]struct{}
	todo  []any
}

// page is which of the 256 pieces of 16 bytes of 4 KiB have been seen.
type page [4]uint64

const (
	piece    = 16
	pageSize = 256 * piece
)

// maxNested is how deep a walk goes by calling itself.
const maxNested = 500

// value adds v. What is nested more deeply is left to run.
func (w *walk) value(v any, depth int) {
	if w.bytes > w.most || w.looks > maxLooks {
		return
	}
	switch v := v.(type) {
	case nil, bool:
	case int, float64:
		w.bytes += 8
	case string:
		w.bytes += 16
		w.text(v)
	case json.Number:
		w.bytes += 16
		w.text(string(v))
	case *big.Int:
		w.bytes += 32 + v.BitLen()/8
	default:
		if depth > maxNested {
			w.todo = append(w.todo, v)
			return
		}
		w.nested(v, depth)
	}
}

func (w *walk) nested(v any, depth int) {
	switch v := v.(type) {
	case []any:
		w.bytes += 24
		w.pieces(uintptr(unsafe.Pointer(unsafe.SliceData(v))), len(v)*piece, func(i int) {
			if i < len(v) { // large lists do not begin at a piece
				w.value(v[i], depth+1)
			}
		})
	case map[string]any:
		w.object(v, depth)
	case *matches:
		w.bytes += 128
		w.text(v.text)
	default:
		w.other(v, depth)
	}
}

// maxLooks bounds a walk through parts of lists and texts that lie over each other. One that ends there counts as too much.
const maxLooks = 2 << 20

// run walks through what is left, until it is done or there is too much.
func (w *walk) run() {
	for len(w.todo) > 0 && w.bytes <= w.most && w.looks <= maxLooks {
		v := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.nested(v, 0)
	}
	if w.looks > maxLooks {
		w.bytes = w.most + 1
	}
	w.todo = nil
}

func (w *walk) object(v map[string]any, depth int) {
	at := reflect.ValueOf(v).Pointer()
	if _, ok := w.maps[at]; ok {
		return
	}
	if w.maps == nil {
		w.maps = map[uintptr]struct{}{}
	}
	w.maps[at] = struct{}{}
	w.bytes += mapSize(len(v))
	for name, value := range v {
		w.text(name)
		w.value(value, depth+1)
	}
}

// other is what gojq has on its stacks beside values: what .[] has still to iterate over, and the lists that it may write to.
func (w *walk) other(v any, depth int) {
	switch reflect.TypeOf(v).Kind() {
	case reflect.Slice:
		if reflect.TypeOf(v).Elem().Size() != unsafe.Sizeof(pathValue{}) {
			w.bytes += 24
			return
		}
		rest := *(*[]pathValue)((*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1])
		w.pieces(uintptr(unsafe.Pointer(unsafe.SliceData(rest))), 2*piece*len(rest), func(i int) {
			if i%2 == 0 && i/2 < len(rest) {
				w.value(rest[i/2].path, depth+1)
				w.value(rest[i/2].value, depth+1)
			}
		})
	case reflect.Map:
		w.bytes += 16 * reflect.ValueOf(v).Len()
	default:
		w.bytes += 16
	}
}

// mapSize is about what a map of n names takes, without them.
func mapSize(n int) int {
	if n <= 8 {
		return 360
	}
	return 48 + 64*n
}

func (w *walk) text(s string) {
	w.pieces(uintptr(unsafe.Pointer(unsafe.StringData(s))), len(s), nil)
}

// pieces marks memory as seen and counts what was not; f is called for each piece of that, by its number.
func (w *walk) pieces(at uintptr, size int, f func(int)) {
	if size == 0 {
		return
	}
	if size > pageSize {
		if w.large[at] >= size {
			return
		}
		if w.large == nil {
			w.large = map[uintptr]int{}
		}
		w.large[at] = size
	}
	if w.seen == nil {
		w.seen = map[uintptr]*page{}
	}
	first, last := at/piece, (at+uintptr(size)-1)/piece
	for n := first; n <= last; {
		w.looks++
		p := w.seen[n>>8]
		if p == nil {
			p = new(page)
			w.seen[n>>8] = p
		}
		for {
			word, bit := n>>6&3, uint64(1)<<(n&63)
			switch {
			case p[word] == ^uint64(0):
				n |= 63
			case p[word]&bit == 0:
				p[word] |= bit
				w.bytes += piece
				if f != nil {
					f(int(n - first))
				}
			}
			if n++; n > last || n&255 == 0 {
				break
			}
		}
	}
}

// input is what a run was given.
func (w *walk) input(m *meter) {
	w.value(m.value, 0)
	for _, v := range m.given {
		w.value(v, 0)
	}
	w.run()
}

// env is everything that a running program refers to.
func (w *walk) env(e *env) {
	w.bytes += e.stacked()
	for i := range e.stack.data {
		w.value(e.stack.data[i].value, 0)
	}
	for i := range e.paths.data {
		w.value(e.paths.data[i].value.path, 0)
		w.value(e.paths.data[i].value.value, 0)
	}
	for _, v := range e.values {
		w.value(v, 0)
	}
	for _, v := range e.args {
		w.value(v, 0)
	}
	w.run()
}
