// This file is the bounded functions over paths: getpath, setpath, delpaths.

package jq

import (
	"reflect"
	"slices"
	"unsafe"

	"github.com/itchyny/gojq"
)

// getpath is a chain of .[x].
func getpath(m *machine, next function, v any, args []any) any {
	path, _ := args[0].([]any)
	if !m.work(len(path) >> 3) {
		return m.err
	}
	for i, step := range path {
		if long(step) {
			return ErrNumber
		}
		sought, ok := step.([]any)
		if !ok {
			continue
		}
		list, ok := next(v, append([]any{path[:i]}, args[1:]...)).([]any)
		if !ok {
			break
		}
		return getpath(m, next, found(m, list, sought), append([]any{path[i+1:]}, args[1:]...))
	}
	return next(v, args)
}

// setpath copies each object and list on its way, unless the assignment that it is part of has made it.
func setpath(m *machine, next function, v any, args []any) any {
	path, _ := args[0].([]any)
	if len(path) > maxDepth {
		return ErrDepth
	}
	made := allocated(args)
	total, at := 0, v
	for _, step := range path {
		if long(step) {
			return ErrNumber
		}
		if _, ok := made[address(at)]; !ok {
			total += shallow(at)
		}
		if n, ok := gojq.ToInt(step); ok && n > maxElement {
			if list, _ := at.([]any); n >= len(list) {
				return m.stop(ErrMemory)
			}
		}
		total += 16
		at = child(at, step)
	}
	if list, ok := args[1].([]any); ok { // it may replace a part of a list
		total += shallow(list)
	}
	if !m.answer(total) {
		return m.err
	}
	return next(v, args)
}

// child is what stands in v at step, nil if that is no simple one.
func child(v, step any) any {
	switch v := v.(type) {
	case map[string]any:
		name, _ := step.(string)
		return v[name]
	case []any:
		if n, ok := gojq.ToInt(step); ok && n >= 0 && n < len(v) {
			return v[n]
		}
	}
	return nil
}

// allocated is what the assignment that setpath is called by has made, by address; nil where it is called by itself.
func allocated(args []any) map[uintptr]struct{} {
	if len(args) < 3 {
		return nil
	}
	v := args[2] // a map of gojq's own type, which is one pointer
	return *(*map[uintptr]struct{})(unsafe.Pointer(&(*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1]))
}

// address is where an object or list is, 0 for anything else.
func address(v any) uintptr {
	switch v := v.(type) {
	case map[string]any:
		return reflect.ValueOf(v).Pointer()
	case []any:
		return reflect.ValueOf(v).Pointer()
	}
	return 0
}

// delpaths marks what is at the paths, and then goes through all of the value to take it out.
func delpaths(m *machine, next function, v any, args []any) any {
	paths, _ := args[0].([]any)
	if len(paths) == 0 {
		return next(v, args)
	}
	bytes, err := m.whole(v, paths)
	if err != nil {
		return err
	}
	sliced := 0
	for _, p := range paths {
		path, _ := p.([]any)
		if len(path) > maxDepth {
			return ErrDepth
		}
		for _, step := range path {
			if _, ok := step.(map[string]any); ok {
				sliced++
			}
		}
	}
	// A part of a list is marked element by element, and a path of parts may copy what it leads through at each step.
	if !m.answer(2*bytes) || sliced > 0 && !m.answer(product(sliced, bytes)/8) {
		return m.err
	}
	if len(paths) < 64 {
		return next(v, args)
	}
	paths = slices.Clone(paths) // gojq does not sort what is sorted
	slices.SortStableFunc(paths, func(a, b any) int { return m.compare(a, b, 0) })
	if m.err != nil {
		return m.err
	}
	return next(v, append([]any{paths}, args[1:]...))
}
