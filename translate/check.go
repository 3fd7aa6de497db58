// This file finds what is wrong with a program before any message arrives: a regular expression that never compiles, and a program that
// yields the same for every message.

package translate

import (
	"fmt"
	"reflect"

	"github.com/itchyny/gojq"

	"sidestream/translate/jq"
)

// regexps are jq's functions that take a regular expression, with their numbers of arguments. Flags are the last argument where
// there is one more than the first number.
var regexps = map[string][]int{
	"test": {1, 2}, "match": {1, 2}, "capture": {1, 2}, "scan": {1, 2}, "splits": {1, 2}, "split": {2, 2}, "sub": {2, 3}, "gsub": {2, 3},
}

// checkRegexps returns the error of a constant regular expression in q that does not compile: each message would fail.
func checkRegexps(q *gojq.Query) (err error) {
	own := map[string]bool{} // functions of the program's own by these names
	each(reflect.ValueOf(q), func(v any) {
		if def, ok := v.(*gojq.FuncDef); ok {
			own[fmt.Sprint(def.Name, len(def.Args))] = true
		}
	})
	each(reflect.ValueOf(q), func(v any) {
		f, ok := v.(*gojq.Func)
		if !ok || err != nil || own[fmt.Sprint(f.Name, len(f.Args))] {
			return
		}
		counts := regexps[f.Name]
		if counts == nil || len(f.Args) < counts[0] || len(f.Args) > counts[1] {
			return
		}
		re, flags := constantText(f.Args[0]), ""
		if at := counts[1] - 1; len(f.Args) == counts[1] {
			flags = textOf(constantText(f.Args[at]))
		}
		if list := constantList(f.Args[0]); len(list) == 2 && len(f.Args) == 1 {
			re, flags = constantText(list[0]), textOf(constantText(list[1]))
		}
		if re == nil {
			return
		}
		if bad := jq.CheckRegexp(*re, flags); bad != nil {
			err = fmt.Errorf("%s would fail for every message: %w (look-ahead, look-behind and back-references are not known; see https://pkg.go.dev/regexp/syntax)", f.Name, bad)
		}
	})
	return err
}

// constantText is the text that a program is, nil if it is anything else.
func constantText(q *gojq.Query) *string {
	if t := q.Term; t != nil && t.Type == gojq.TermTypeString && len(t.SuffixList) == 0 && t.Str.Queries == nil {
		return &t.Str.Str
	}
	return nil
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// constantList is what stands in the brackets of a list that a program is.
func constantList(q *gojq.Query) (list []*gojq.Query) {
	if q.Term == nil || q.Term.Type != gojq.TermTypeArray || len(q.Term.SuffixList) > 0 {
		return nil
	}
	for q = q.Term.Array.Query; q != nil; q = q.Left {
		if q.Op != gojq.OpComma {
			return append([]*gojq.Query{q}, list...)
		}
		list = append([]*gojq.Query{q.Right}, list...)
	}
	return list
}

// each calls f with every part of a program that there is a pointer to.
func each(v reflect.Value, f func(any)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f(v.Interface())
			each(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), f)
		}
	}
}

// constant reports whether q yields the same for every message: it consists of strings, numbers and what is made of these. true and
// false by themselves do not count, since they are intended; nor does a function, which may do anything.
func constant(q *gojq.Query) bool {
	if t := q.Term; t != nil && (t.Type == gojq.TermTypeTrue || t.Type == gojq.TermTypeFalse) && len(t.SuffixList) == 0 {
		return false
	}
	reads := len(q.FuncDefs) > 0
	each(reflect.ValueOf(q), func(v any) {
		switch v := v.(type) {
		case *gojq.Term:
			switch v.Type {
			case gojq.TermTypeIdentity, gojq.TermTypeRecurse, gojq.TermTypeIndex, gojq.TermTypeFunc, gojq.TermTypeTry, gojq.TermTypeReduce,
				gojq.TermTypeForeach, gojq.TermTypeLabel, gojq.TermTypeBreak:
				reads = true
			case gojq.TermTypeFormat:
				reads = reads || v.Str == nil
			}
		case *gojq.ObjectKeyVal:
			reads = reads || v.Val == nil // {a} is {a:.a}
		}
	})
	return !reads
}
