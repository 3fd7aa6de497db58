package jq

import (
	"errors"

	"github.com/itchyny/gojq"
)

// This file runs the programs that most routes have - select(.type == "x"), .a.b, {a, b}, .[] - on the value as it is, without gojq. The rules:
//
//   - What a program comes to is what gojq makes of it, in the same order. A shape does only what is the same for certain; at anything else, and at every error, it
//     stops, and gojq runs the program from its beginning, of whose outputs those are left out that were given.
//   - So a shape is of programs alone that come to the same each time that they run: nothing that asks what time it is.
//   - It counts its steps: it looks at the context now and then, and a run that takes long is gojq's, for which only a few go on at once.

// shape is a program, or a part of one: it calls yield with each of its outputs over v, until that fails.
type shape func(v any, in *pass, yield func(any) error) error

// errShape means that gojq is to run the program.
var errShape = errors.New("is for gojq")

// shaper finds shapes.
type shaper struct {
	variables []string
	functions map[string]string // of ours: the variable that each is
}

// shapeOf is the shape of a program; it runs nothing where there is none.
func shapeOf(q *gojq.Query, variables []string) (none part) {
	s := shaper{variables, map[string]string{}}
	for _, def := range q.FuncDefs {
		body := def.Body
		if len(def.Args) > 0 || body == nil || body.Term == nil || body.Term.Func == nil || len(body.Term.Func.Args) > 0 || body.Term.SuffixList != nil || s.variable(body.Term.Func.Name) < 0 {
			return none
		}
		s.functions[def.Name] = body.Term.Func.Name
	}
	alone := *q
	alone.FuncDefs = nil
	return s.query(&alone)
}

// variable is the place of a variable; less than 0: there is none of that name.
func (s shaper) variable(name string) int {
	for i, known := range s.variables {
		if known == name {
			return i
		}
	}
	return -1
}

func (s shaper) query(q *gojq.Query) (none part) {
	if q == nil || q.Meta != nil || len(q.Imports)+len(q.FuncDefs)+len(q.Patterns) > 0 {
		return none
	}
	if q.Term != nil {
		return s.term(q.Term)
	}
	l, r := s.query(q.Left), s.query(q.Right)
	if l.run == nil || r.run == nil {
		return none
	}
	switch q.Op {
	case gojq.OpPipe:
		return piped(l, r)
	case gojq.OpComma:
		return part{run: func(v any, in *pass, yield func(any) error) error {
			if err := l.run(v, in, yield); err != nil {
				return err
			}
			return r.run(v, in, yield)
		}, loads: l.loads, reads: within([]part{l, r})}
	}
	if !l.sure || !r.sure {
		return none
	}
	switch q.Op {
	case gojq.OpEq, gojq.OpNe, gojq.OpLt, gojq.OpLe, gojq.OpGt, gojq.OpGe:
		return compared(q.Op, l, r)
	case gojq.OpAnd, gojq.OpOr:
		return combined(q.Op == gojq.OpAnd, l, r)
	case gojq.OpAlt:
		return otherwise(l, r)
	}
	return none
}

func (s shaper) term(t *gojq.Term) part {
	p := s.simple(t)
	for _, suffix := range t.SuffixList {
		if p.run == nil {
			return p
		}
		switch {
		case suffix.Index != nil:
			p = piped(p, member(suffix.Index))
		case suffix.Iter:
			p = piped(p, part{run: iterate})
		case !suffix.Optional: // which changes errors alone, and those are gojq's
			return part{}
		}
	}
	return p
}

// simple is a term without what follows it.
func (s shaper) simple(t *gojq.Term) (none part) {
	switch t.Type {
	case gojq.TermTypeIdentity:
		return identity
	case gojq.TermTypeIndex:
		return member(t.Index)
	case gojq.TermTypeNull:
		return constant(nil)
	case gojq.TermTypeTrue:
		return constant(true)
	case gojq.TermTypeFalse:
		return constant(false)
	case gojq.TermTypeNumber:
		if n, ok := literal(t.Number); ok {
			return constant(n)
		}
	case gojq.TermTypeString:
		if t.Str != nil && len(t.Str.Queries) == 0 {
			return constant(t.Str.Str)
		}
	case gojq.TermTypeQuery:
		return s.query(t.Query)
	case gojq.TermTypeObject:
		return s.object(t.Object)
	case gojq.TermTypeIf:
		return s.conditional(t.If)
	case gojq.TermTypeFunc:
		return s.function(t.Func)
	}
	return none
}

func (s shaper) function(f *gojq.Func) (none part) {
	name := f.Name
	if ours, ok := s.functions[name]; ok && len(f.Args) == 0 {
		name = ours
	}
	if at := s.variable(name); at >= 0 && len(f.Args) == 0 {
		p := reading(readsNone, single(func(_ any, in *pass) (any, error) { return in.known[at], nil }))
		p.loads = true
		return p
	}
	switch {
	case name == "select" && len(f.Args) == 1:
		if condition := s.query(f.Args[0]); condition.sure {
			return chosen(identity, condition, nothing)
		}
	case name == "empty" && len(f.Args) == 0:
		return nothing
	case name == "not" && len(f.Args) == 0:
		return single(func(v any, _ *pass) (any, error) { return !truth(v), nil })
	}
	return none
}

// member is .name, .["name"] or .[n].
func member(at *gojq.Index) (none part) {
	if at == nil || at.IsSlice || at.End != nil {
		return none
	}
	name := at.Name
	switch {
	case at.Str != nil && len(at.Str.Queries) == 0:
		name = at.Str.Str
	case at.Str != nil:
		return none
	case at.Start != nil:
		return place(at.Start)
	}
	return field(name)
}

func field(name string) part {
	return reading(reads{known: true, members: []string{name}}, single(func(v any, _ *pass) (any, error) {
		switch v := v.(type) {
		case map[string]any:
			return v[name], nil
		case nil:
			return nil, nil
		}
		return nil, errShape
	}))
}

// place is .[q], where q is a constant.
func place(q *gojq.Query) (none part) {
	if q.Term == nil || q.Left != nil || len(q.Term.SuffixList)+len(q.FuncDefs)+len(q.Patterns) > 0 {
		return none
	}
	if t := q.Term; t.Type == gojq.TermTypeString && t.Str != nil && len(t.Str.Queries) == 0 {
		return field(t.Str.Str)
	}
	n, ok := literal(q.Term.Number)
	if q.Term.Type != gojq.TermTypeNumber || !ok {
		return none
	}
	return single(func(v any, _ *pass) (any, error) {
		switch v := v.(type) {
		case []any:
			if n < len(v) {
				return v[n], nil
			}
			return nil, nil
		case nil:
			return nil, nil
		}
		return nil, errShape
	})
}

// iterate is .[] of a list.
func iterate(v any, _ *pass, yield func(any) error) error {
	list, ok := v.([]any)
	if !ok {
		return errShape
	}
	for _, v := range list {
		if err := yield(v); err != nil {
			return err
		}
	}
	return nil
}

// entry is a member of an object that is made.
type entry struct {
	name  string
	value part
}

// object is {a, "b": .c, $event} of parts that have one output each.
func (s shaper) object(o *gojq.Object) (none part) {
	var members []entry
	var values []part
	loads := true
	for _, kv := range o.KeyVals {
		m := entry{name: kv.Key}
		switch {
		case kv.KeyQuery != nil || kv.KeyString != nil && len(kv.KeyString.Queries) > 0:
			return none
		case kv.KeyString != nil:
			m.name = kv.KeyString.Str
		}
		switch {
		case kv.Val != nil && kv.KeyString == nil && m.name != "" && m.name[0] == '$':
			return none
		case kv.Val != nil:
			m.value = s.query(kv.Val)
		case kv.KeyString == nil && m.name != "" && m.name[0] == '$':
			m.value, m.name = s.function(&gojq.Func{Name: m.name}), m.name[1:]
		default:
			m.value = field(m.name)
		}
		if !m.value.sure {
			return none
		}
		members, values = append(members, m), append(values, m.value)
		loads = loads && m.value.loads
	}
	p := single(func(v any, in *pass) (any, error) {
		made := make(map[string]any, len(members))
		for i := range members {
			value, err := members[i].value.one(v, in)
			if err != nil {
				return nil, err
			}
			made[members[i].name] = value
		}
		return made, nil
	})
	p.text, p.loads, p.reads = written(members), loads, within(nil, values...)
	return p
}

func (s shaper) conditional(c *gojq.If) (none part) {
	other := identity
	if c.Else != nil {
		other = s.query(c.Else)
	}
	branches := append([]*gojq.IfElif{{Cond: c.Cond, Then: c.Then}}, c.Elif...)
	for i := len(branches) - 1; i >= 0; i-- {
		condition, then := s.query(branches[i].Cond), s.query(branches[i].Then)
		if !condition.sure || then.run == nil || other.run == nil {
			return none
		}
		other = chosen(then, condition, other)
	}
	return other
}
