package jq

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// A native does what one of gojq's functions does, within bounds. next is gojq's own, which it calls when that is known to be
// bounded, and for arguments that are an error, so that messages stay what they are.
type native func(m *machine, next function, v any, args []any) any

// natives are all functions of gojq, but for those that take a bounded time for whatever they get ([simple]). One that is in neither
// is taken for one that copies everything it gets a few times over.
var natives = map[string]native{
	"_add": addTwo, "_multiply": multiply, "_divide": divide, "_subtract": subtract,
	"_equal": comparison(func(c int) bool { return c == 0 }), "_notequal": comparison(func(c int) bool { return c != 0 }),
	"_greater": comparison(func(c int) bool { return c > 0 }), "_less": comparison(func(c int) bool { return c < 0 }),
	"_greatereq": comparison(func(c int) bool { return c >= 0 }), "_lesseq": comparison(func(c int) bool { return c <= 0 }),
	"add": addAll, "join": join, "keys": copies(3), "reverse": copies(1), "flatten": whole(2), "transpose": transpose,
	"contains": contains, "inside": inside, "indices": indices, "index": index, "rindex": rindex, "_index": indexed, "getpath": getpath,
	"sort": sorted(keepAll), "_sort_by": sorted(keepAll), "unique": sorted(keepFirst), "_unique_by": sorted(keepFirst), "_group_by": sorted(keepGroups),
	"min": extreme(-1), "_min_by": extreme(-1), "max": extreme(1), "_max_by": extreme(1), "bsearch": bsearch,
	"split": split, "explode": copies(24), "implode": whole(1), "ascii_downcase": copies(1), "ascii_upcase": copies(1),
	"tostring": tostring, "tojson": whole(6), "fromjson": copies(24), "format": whole(6),
	"_tohtml": whole(6), "_touri": whole(6), "_tourid": whole(6), "_tocsv": whole(6), "_totsv": whole(6), "_tosh": whole(6), "_tobase64": whole(6), "_tobase64d": whole(6),
	"setpath": setpath, "_setpath": setpath, "delpaths": delpaths, "_delpaths": delpaths,
	"_match": match, "_captures": copies(4), "strftime": format, "strflocaltime": format, "strptime": format, "mktime": whole(1),
	"now": now, "error": raise, "halt_error": raise, "jn": order, "yn": order, "tonumber": tonumber,
}

// simple take no time to speak of for any value, once numbers that are too long are ruled out.
var simple = func() map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq(`length utf8bytelength has toboolean type startswith endswith ltrimstr rtrimstr trimstr ltrim rtrim trim
		_slice _plus _negate _modulo _alternative _range gmtime localtime halt env builtins modulemeta infinite nan isfinite isinfinite isnan isnormal
		frexp modf sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor round nearbyint rint ceil trunc significand fabs sqrt cbrt
		exp exp10 exp2 expm1 log log10 log1p log2 logb gamma tgamma lgamma erf erfc j0 j1 y0 y1 atan2 copysign drem fdim fmax fmin fmod hypot
		nextafter nexttoward remainder ldexp scalb scalbln pow fma _allocator _break`) {
		names[name] = true
	}
	return names
}()

// bounded is what is called in the place of gojq's function name.
func (m *machine) bounded(name string, next function) function {
	own := natives[name]
	if own == nil && !simple[name] {
		own = whole(8)
	}
	return func(v any, args []any) any {
		if long(v) {
			return ErrNumber
		}
		for _, arg := range args {
			if long(arg) {
				return ErrNumber
			}
		}
		if own == nil {
			return next(v, args)
		}
		answer := own(m, next, v, args)
		if m.err != nil {
			return m.err
		}
		return answer
	}
}

// copies is a function that makes factor bytes of each of its input, without what that refers to.
func copies(factor int) native {
	return func(m *machine, next function, v any, args []any) any {
		if !m.answer(product(factor, shallow(v))) {
			return m.err
		}
		return next(v, args)
	}
}

// whole is a function that goes through all of its input and arguments, and makes at most factor bytes of each.
func whole(factor int) native {
	return func(m *machine, next function, v any, args []any) any {
		bytes, err := m.whole(v, args...)
		if err != nil {
			return err
		}
		if !m.answer(product(factor, bytes)) {
			return m.err
		}
		return next(v, args)
	}
}

// whole is how large values are; all of them is gone through.
func (m *machine) whole(v any, args ...any) (int, error) {
	s := size{most: max(maxAnswer, 2*m.input)}
	ok := s.add(v, 0)
	for _, arg := range args {
		ok = ok && s.add(arg, 0)
	}
	switch {
	case s.deep:
		return 0, ErrDepth
	case !ok && s.most < 2*m.inputSize():
		return m.whole(v, args...)
	case !ok:
		return 0, m.stop(ErrMemory)
	case s.long:
		return 0, ErrNumber
	}
	m.work(s.bytes >> 9)
	return s.bytes, nil
}

func tostring(m *machine, next function, v any, args []any) any {
	if s, ok := v.(string); ok {
		return s
	}
	return whole(6)(m, next, v, args)
}

// addTwo is l + r.
func addTwo(m *machine, next function, v any, args []any) any {
	switch args[0].(type) {
	case string, []any, map[string]any:
		if !m.answer(shallow(args[0]) + shallow(args[1])) {
			return m.err
		}
	}
	return next(v, args)
}

// multiply is l * r: a text repeated, objects merged.
func multiply(m *machine, next function, v any, args []any) any {
	for i, arg := range args {
		text, ok := arg.(string)
		times, number := gojq.ToFloat64(args[1-i])
		if ok && number && times > 0 && !m.answer(product(int(min(times, 1<<31-1)), len(text))) {
			return m.err
		}
	}
	if _, ok := args[0].(map[string]any); ok {
		return whole(4)(m, next, v, args)
	}
	return next(v, args)
}

// divide is l / r, which splits texts.
func divide(m *machine, next function, v any, args []any) any {
	if !m.splits(args[0], args[1]) {
		return m.err
	}
	return next(v, args)
}

func split(m *machine, next function, v any, args []any) any {
	if !m.splits(v, args[0]) {
		return m.err
	}
	return next(v, args)
}

// splits charges for the pieces of a text, which share its memory.
func (m *machine) splits(v, by any) bool {
	text, ok1 := v.(string)
	between, ok2 := by.(string)
	return !ok1 || !ok2 || m.answer(len(text)/8+48*(strings.Count(text, between)+1))
}

// addAll is add: it grows what it has found so far, as gojq's does.
func addAll(m *machine, next function, v any, args []any) any {
	list, ok := v.([]any)
	if object, isObject := v.(map[string]any); isObject {
		ok = true
		for _, name := range m.names(object) {
			list = append(list, object[name])
		}
	}
	if !ok {
		return next(v, args)
	}
	total := 0
	for _, v := range list {
		if total += shallow(v); long(v) {
			return ErrNumber
		}
	}
	if !m.answer(total) {
		return m.err
	}
	if !slices.ContainsFunc(list, numeric) {
		return next(list, nil)
	}
	var sum any
	for _, v := range list { // one by one: of long numbers an addition takes its time
		if !m.charge(shallow(sum) + shallow(v)) {
			return m.err
		}
		sum = known.add(nil, []any{sum, v})
		if _, failed := sum.(error); failed {
			return sum
		}
		if long(sum) {
			return ErrNumber
		}
	}
	return sum
}

func numeric(v any) bool {
	_, ok := gojq.ToInt(v)
	return ok
}

func join(m *machine, next function, v any, args []any) any {
	list, _ := v.([]any)
	by, _ := args[0].(string)
	total := 0
	for _, v := range list {
		total += 2*shallow(v) + len(by)
	}
	if object, ok := v.(map[string]any); ok {
		for _, v := range object {
			total += 2*shallow(v) + len(by)
		}
	}
	if !m.answer(total) {
		return m.err
	}
	return next(v, args)
}

func transpose(m *machine, next function, v any, args []any) any {
	list, _ := v.([]any)
	longest := 0
	for _, v := range list {
		if row, ok := v.([]any); ok {
			longest = max(longest, len(row))
		}
	}
	if !m.answer(product(24+16*len(list), longest)) {
		return m.err
	}
	return next(v, args)
}

// indexed is .[x], which looks for lists in lists.
func indexed(m *machine, next function, v any, args []any) any {
	list, ok := args[0].([]any)
	if sought, both := args[1].([]any); ok && both {
		return found(m, list, sought)
	}
	return next(v, args)
}

// maxFormat is how long the format of a time may be: one directive may ask for a thousand characters.
const maxFormat = 4 << 10

func format(m *machine, next function, v any, args []any) any {
	if text, ok := args[0].(string); ok && len(text) > maxFormat {
		return fmt.Errorf("the format of a time is over %d bytes", maxFormat)
	}
	return whole(1)(m, next, v, args)
}

// raise is error(…), whose value becomes a text.
func raise(m *machine, next function, v any, args []any) any {
	if _, err := m.whole(v, args...); err != nil {
		return err
	}
	return next(v, args)
}

// order is a Bessel function: it counts up to its order.
func order(m *machine, next function, v any, args []any) any {
	if n, ok := gojq.ToFloat64(args[0]); ok && math.Abs(n) > 1<<20 {
		return errors.New("a Bessel function of an order over a million")
	}
	if !m.work(1 << 10) {
		return m.err
	}
	return next(v, args)
}

func tonumber(m *machine, next function, v any, args []any) any {
	if text, ok := v.(string); ok && len(text) > maxDigits {
		return ErrNumber
	}
	return next(v, args)
}
