package jq

import "errors"

// This file is what shapes are made of, and how these parts are put together.

// worth is a part that has one output over v, or none: it returns that, or errNone, which takes no function to be made for it.
type worth func(v any, in *pass) (any, error)

var errNone = errors.New("there is no output")

// part is a shape, and what is known of it.
type part struct {
	run   shape
	one   worth // nil: it may have several outputs
	sure  bool  // it has one, and never none
	text  text  // nil: it is not known that the output is an object that it makes
	reads reads // of an object
	loads bool  // it begins with a constant or a variable, whatever its input is
}

// single is a part with one output.
func single(one worth) part {
	p := atMost(one)
	p.sure = true
	return p
}

// atMost is a part with one output, or none.
func atMost(one worth) part {
	return part{run: func(v any, in *pass, yield func(any) error) error {
		out, err := one(v, in)
		switch err {
		case nil:
			return yield(out)
		case errNone:
			return nil
		}
		return err
	}, one: one}
}

// piped is l | r, and none where one of them is. Where r begins with a constant or a variable gojq 0.12.20 fails in some places ({a: (.b or .c | 1)}), which is left to it.
func piped(l, r part) part {
	if l.run == nil || r.run == nil || r.loads {
		return part{}
	}
	if l.one != nil && r.one != nil {
		p := atMost(func(v any, in *pass) (any, error) {
			v, err := passed(l, v, in)
			if err != nil {
				return nil, err
			}
			return r.one(v, in)
		})
		p.sure, p.loads, p.reads = l.sure && r.sure, l.loads, through(l, r)
		if r.text != nil {
			p.text = func(v any, in *pass) ([]byte, error) {
				v, err := passed(l, v, in)
				if err != nil {
					return nil, err
				}
				return r.text(v, in)
			}
		}
		return p
	}
	return part{run: func(v any, in *pass, yield func(any) error) error {
		return l.run(v, in, func(v any) error {
			if err := in.step(); err != nil {
				return err
			}
			return r.run(v, in, yield)
		})
	}, loads: l.loads, reads: through(l, r)}
}

func truth(v any) bool { return v != nil && v != false }

// passed is what l passes on.
func passed(l part, v any, in *pass) (any, error) {
	v, err := l.one(v, in)
	if err == nil {
		err = in.step()
	}
	return v, err
}

func combined(and bool, l, r part) part {
	return reading(within(nil, l, r), single(func(v any, in *pass) (any, error) {
		a, err := l.one(v, in)
		if err != nil {
			return nil, err
		}
		if truth(a) != and { // the other does not matter, nor is it run
			return !and, nil
		}
		b, err := r.one(v, in)
		return truth(b), err
	}))
}

// chosen is what then yields where the condition holds, else what other yields. All are given the same.
func chosen(then, condition, other part) part {
	if then.one != nil && other.one != nil {
		p := atMost(func(v any, in *pass) (any, error) {
			c, err := condition.one(v, in)
			switch {
			case err != nil:
				return nil, err
			case truth(c):
				return then.one(v, in)
			}
			return other.one(v, in)
		})
		p.sure, p.reads = then.sure && other.sure, within([]part{then, other}, condition)
		return p
	}
	return part{run: func(v any, in *pass, yield func(any) error) error {
		c, err := condition.one(v, in)
		switch {
		case err != nil:
			return err
		case truth(c):
			return then.run(v, in, yield)
		}
		return other.run(v, in, yield)
	}, reads: within([]part{then, other}, condition)}
}

// otherwise is l // r.
func otherwise(l, r part) part {
	return reading(within([]part{l, r}), single(func(v any, in *pass) (any, error) {
		a, err := l.one(v, in)
		if err != nil || truth(a) {
			return a, err
		}
		return r.one(v, in)
	}))
}

func constant(v any) part {
	p := reading(readsNone, single(func(any, *pass) (any, error) { return v, nil }))
	p.loads = true
	return p
}

// reading is p, which reads r of an object.
func reading(r reads, p part) part {
	p.reads = r
	return p
}

var identity = reading(reads{known: true, itself: true}, single(func(v any, _ *pass) (any, error) { return v, nil }))

var nothing = reading(readsNone, atMost(func(any, *pass) (any, error) { return nil, errNone }))
