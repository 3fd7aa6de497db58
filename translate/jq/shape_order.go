package jq

import (
	"cmp"
	"encoding/json"
	"strconv"

	"github.com/itchyny/gojq"
)

// This file is how shapes compare values: those alone that are compared without counting with what is no small whole number.

func compared(op gojq.Operator, l, r part) part {
	return reading(within(nil, l, r), single(func(v any, in *pass) (any, error) {
		a, err := l.one(v, in)
		if err != nil {
			return nil, err
		}
		b, err := r.one(v, in)
		if err != nil {
			return nil, err
		}
		c, ok := ordered(a, b)
		if !ok {
			return nil, errShape
		}
		switch op {
		case gojq.OpEq:
			return c == 0, nil
		case gojq.OpNe:
			return c != 0, nil
		case gojq.OpLt:
			return c < 0, nil
		case gojq.OpLe:
			return c <= 0, nil
		case gojq.OpGt:
			return c > 0, nil
		}
		return c >= 0, nil
	}))
}

// ordered compares two values as jq does; false: that is for gojq.
func ordered(a, b any) (c int, ok bool) {
	if x, isText := a.(string); isText {
		if y, isText := b.(string); isText {
			switch {
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
	}
	x, ok := rank(a)
	if !ok {
		return 0, false
	}
	y, ok := rank(b)
	switch {
	case !ok:
		return 0, false
	case x != y:
		return x - y, true
	case x != numbers:
		return 0, x < numbers // null, false and true are one value each
	}
	m, ok := smallInt(a)
	if !ok {
		return 0, false
	}
	n, ok := smallInt(b)
	return cmp.Compare(m, n), ok
}

const numbers = 3

// rank is the place of a value's type in jq's order.
func rank(v any) (n int, ok bool) {
	switch v := v.(type) {
	case nil:
		return 0, true
	case bool:
		if v {
			return 2, true
		}
		return 1, true
	case int, json.Number:
		return numbers, true
	case string:
		return 4, true
	case []any:
		return 5, true
	case map[string]any:
		return 6, true
	}
	return 0, false
}

// smallInt is a number that is small and has no fraction.
func smallInt(v any) (n int64, ok bool) {
	const most = 15 // digits
	switch v := v.(type) {
	case int:
		n = int64(v)
		return n, -1e15 < n && n < 1e15
	case json.Number:
		digits := string(v)
		if len(digits) > 0 && digits[0] == '-' {
			digits = digits[1:]
		}
		if len(digits) == 0 || len(digits) > most || digits == "0" && v != "0" { // -0 is a matter of its own
			return 0, false
		}
		for _, c := range []byte(digits) {
			if c < '0' || c > '9' {
				return 0, false
			}
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// literal is a number that a program is written with, where it is small and has no fraction.
func literal(text string) (n int, ok bool) {
	small, ok := smallInt(json.Number(text))
	n = int(small)
	return n, ok && strconv.Itoa(n) == text
}
