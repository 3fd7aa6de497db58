package jq

//lint:file-ignore U1000 what is not used is there for the place of what is.

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/itchyny/gojq"
)

// This file knows how gojq 0.12.20 keeps a compiled program and its stacks. In a build with another gojq, whose types differ,
// no program compiles: known.err is the reason.

// code is a compiled program.
type code struct {
	variables []string
	codes     []*instruction
	codeinfos []struct{}
}

// instruction is one step. v of a call of one of gojq's functions is [3]any: the function, the number of its arguments, its name.
type instruction struct {
	v  any
	op int
}

// env is a program that runs.
type env struct {
	pc        int
	stack     *stack[any]
	paths     *stack[pathValue]
	scopes    *stack[scope]
	values    []any
	codes     []*instruction
	codeinfos []struct{}
	forks     []fork
	backtrack bool
	offset    int
	expdepth  int
	label     int
	args      [32]any
}

type stack[T any] struct {
	data  []block[T]
	index int
	limit int
}

type block[T any] struct {
	value T
	next  int
}

type pathValue struct{ path, value any }

type scope struct{ id, offset, pc, saveindex, outerindex int }

type fork struct{ pc, stackindex, stacklimit, scopeindex, scopelimit, pathindex, pathlimit, offset, expdepth int }

// function is one of gojq's.
type function = func(any, []any) any

// known is what is found out about gojq when the process starts.
var known = learn()

type knowledge struct {
	err error
	ops map[string]int
	add function
}

func learn() (k knowledge) {
	k.ops = map[string]int{}
	query, err := gojq.Parse(".+.")
	if err != nil {
		return knowledge{err: err}
	}
	compiled, err := gojq.Compile(query)
	if err != nil {
		return knowledge{err: err}
	}
	running := reflect.TypeOf(compiled.Run(nil))
	if !alike(reflect.TypeFor[gojq.Code](), reflect.TypeFor[code]()) || running.Kind() != reflect.Pointer || !alike(running.Elem(), reflect.TypeFor[env]()) {
		return knowledge{err: errors.New("this build's gojq is not the one whose programs can be bounded")}
	}
	field, _ := reflect.TypeFor[gojq.Code]().FieldByName("codes")
	op, _ := field.Type.Elem().Elem().FieldByName("op")
	for n, name := 0, opName(op.Type, 0); name != ""; n, name = n+1, opName(op.Type, n+1) {
		k.ops[name] = n
	}
	for _, i := range codeOf(compiled).codes {
		if call, ok := i.v.([3]any); ok && call[2] == "_add" {
			k.add, _ = call[0].(function)
		}
	}
	for _, name := range []string{"iter", "object", "pathend", "call", "callrec", "pushpc", "jump", "jumpifnot", "fork", "forktrybegin", "forkalt"} {
		if _, ok := k.ops[name]; !ok || k.add == nil {
			return knowledge{err: fmt.Errorf("this build's gojq has no %s", name)}
		}
	}
	return k
}

// opName is what gojq calls instruction n, "" when there is none.
func opName(op reflect.Type, n int) (name string) {
	defer func() { recover() }() // it panics for a number that it does not know
	v := reflect.New(op).Elem()
	v.SetInt(int64(n))
	if named, ok := v.Interface().(fmt.Stringer); ok {
		name = named.String()
	}
	return name
}

// alike reports whether a is laid out as b is, which may leave out fields at the end.
func alike(a, b reflect.Type) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case reflect.Struct:
		if a.NumField() < b.NumField() {
			return false
		}
		for i := range b.NumField() {
			f, g := a.Field(i), b.Field(i)
			if f.Name != g.Name || f.Offset != g.Offset || g.Name != "codeinfos" && !alike(f.Type, g.Type) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Slice:
		return alike(a.Elem(), b.Elem())
	}
	return a.Size() == b.Size()
}

func codeOf(c *gojq.Code) *code { return (*code)(unsafe.Pointer(c)) }

func envOf(iter gojq.Iter) *env { return (*env)(reflect.ValueOf(iter).UnsafePointer()) }

// machine is a program made ready to be run by one goroutine, and that run.
type machine struct {
	meter
	code    gojq.Code
	regexps *cache
}

// newMachine returns p with its calls wrapped and its charges put in.
func newMachine(p *Program) *machine {
	m := &machine{code: *p.code, regexps: p.regexps}
	m.meter.machine = m
	old := codeOf(p.code).codes
	var made []*instruction
	moved := make([]int, len(old)+1) // where each instruction is now, with what is put in before it
	for at, i := range old {
		moved[at] = len(made)
		if i.op == known.ops["iter"] {
			made = append(made, m.call("_charge", m.iterated))
		}
		made = append(made, m.wrapped(i))
		switch i.op {
		case known.ops["object"]:
			made = append(made, m.call("_charge", m.object(i.v.(int))))
		case known.ops["pathend"]:
			made = append(made, m.call("_charge", m.path))
		}
	}
	moved[len(old)] = len(made)
	for _, i := range made {
		if to, ok := i.v.(int); ok && jumps(i.op) {
			i.v = moved[to]
		}
	}
	codeOf(&m.code).codes = made
	return m
}

// jumps reports whether the number of an instruction is that of another.
func jumps(op int) bool {
	for _, name := range []string{"call", "callrec", "pushpc", "jump", "jumpifnot", "fork", "forktrybegin", "forkalt"} {
		if op == known.ops[name] {
			return true
		}
	}
	return false
}

func (m *machine) call(name string, f function) *instruction {
	return &instruction{v: [3]any{f, 0, name}, op: known.ops["call"]}
}

// wrapped is a copy of i, which calls what [natives] has in the place of gojq's function.
func (m *machine) wrapped(i *instruction) *instruction {
	call, ok := i.v.([3]any)
	if !ok || i.op != known.ops["call"] {
		return &instruction{i.v, i.op}
	}
	name, original := call[2].(string), call[0].(function)
	call[0] = m.bounded(name, original)
	return &instruction{call, i.op}
}

// iterated charges for .[], which copies what it iterates over.
func (m *machine) iterated(v any, _ []any) any {
	switch v := v.(type) {
	case []any:
		m.charge(32 * len(v))
	case map[string]any:
		m.charge(96 * len(v)) // its names are sorted
	}
	return v
}

func (m *machine) object(n int) function {
	cost := mapSize(n)
	return func(v any, _ []any) any {
		m.charge(cost)
		return v
	}
}

// path charges for path(…), which may be as long as the value is deep.
func (m *machine) path(v any, _ []any) any {
	if path, ok := v.([]any); ok {
		m.charge(16*len(path) + 24)
	}
	return v
}
