package jq

import (
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"unicode/utf8"
)

// Bounds on regular expressions, which may come from a message.
const (
	maxPattern  = 16 << 10 // bytes
	maxProgram  = 20000    // instructions
	maxPatterns = 64       // kept compiled
	maxKept     = 100000   // instructions of all of them
	maxFind     = 8 << 20  // bytes times instructions that are searched in one go
)

// cache keeps the regular expressions of a program compiled.
type cache struct {
	mu   sync.Mutex
	kept map[[2]string]*pattern
	size int
}

// pattern is a compiled regular expression.
type pattern struct {
	plain  *regexp.Regexp // as it is
	after  *regexp.Regexp // for what follows one character of the text, which ^ and \b want to see; group 1 is the match. nil: it needs none
	size   int            // instructions
	groups []string       // their names
}

// get returns re compiled with jq's flags.
func (c *cache) get(re, flags string) (*pattern, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{re, flags}
	if p := c.kept[key]; p != nil {
		return p, nil
	}
	p, err := compileRegexp(re, flags)
	if err != nil {
		return nil, err
	}
	if c.kept == nil || len(c.kept) >= maxPatterns || c.size+p.size > maxKept {
		c.kept, c.size = map[[2]string]*pattern{}, 0
	}
	c.kept[[2]string{strings.Clone(re), strings.Clone(flags)}] = p
	c.size += p.size
	return p, nil
}

// compileRegexp compiles a regular expression as the functions match, test, sub and their like do.
func compileRegexp(re, flags string) (*pattern, error) {
	if strings.ContainsFunc(flags, func(r rune) bool { return r != 'g' && r != 'i' && r != 'm' }) {
		return nil, fmt.Errorf("unsupported regular expression flag: %q", flags)
	}
	if len(re) > maxPattern {
		return nil, fmt.Errorf("a regular expression of more than %d bytes", maxPattern)
	}
	if strings.ContainsRune(flags, 'i') {
		re = "(?i)" + re
	}
	if strings.ContainsRune(flags, 'm') {
		re = "(?s)" + re
	}
	tree, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("invalid regular expression %q: %s", re, err)
	}
	if instructions(tree) > maxProgram {
		return nil, fmt.Errorf("a regular expression of more than %d steps", maxProgram)
	}
	p := &pattern{size: instructions(tree)}
	if p.plain, err = regexp.Compile(re); err != nil {
		return nil, fmt.Errorf("invalid regular expression %q: %s", re, err)
	}
	p.groups = p.plain.SubexpNames()
	if looksBack(tree) {
		if p.after, err = regexp.Compile(`\A(?s:.)(?s:.*?)((?:` + re + `))`); err != nil {
			return nil, fmt.Errorf("invalid regular expression %q: %s", re, err)
		}
	}
	return p, nil
}

// instructions is about how long the program of a regular expression is.
func instructions(re *syntax.Regexp) int {
	n := 1
	for _, sub := range re.Sub {
		if n += instructions(sub); n > 1<<30 {
			return n
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		n += len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 8
	case syntax.OpRepeat:
		n *= max(re.Min, re.Max, 1) + 1
	}
	return n
}

// looksBack reports whether re asks for what is before a place.
func looksBack(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginLine, syntax.OpBeginText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	for _, sub := range re.Sub {
		if looksBack(sub) {
			return true
		}
	}
	return false
}

// match is _match(re; flags; testing). Its matches come one by one, since all of them may be too many to hold.
func match(m *machine, next function, v any, args []any) any {
	text, ok := v.(string)
	re, ok2 := args[0].(string)
	flags, ok3 := args[1].(string)
	if !ok || !ok2 || !ok3 && args[1] != nil {
		return next(v, args)
	}
	if !m.work(len(re)) { // it may have to be compiled
		return m.err
	}
	p, err := m.regexps.get(re, flags)
	if err != nil {
		return err
	}
	all := &matches{machine: m, pattern: p, text: text, global: strings.ContainsRune(flags, 'g')}
	if args[2] == true {
		return all.find() != nil
	}
	return all
}

// matches is an iterator over the matches in a text.
type matches struct {
	*machine
	*pattern
	text     string
	global   bool
	at       int // where the next one is looked for
	counted  int // bytes of text of which
	runes    int // is known how many characters they are
	finished bool
}

// Next returns the next match as jq has it.
func (a *matches) Next() (any, bool) {
	if a.finished {
		return nil, false
	}
	found := a.find()
	if a.err != nil {
		a.finished = true
		return a.err, true
	}
	if found == nil || !a.charge(2*mapSize(4)+(len(found)/2)*mapSize(4)) {
		a.finished = true
		return nil, false
	}
	a.finished = !a.global
	a.at = found[1]
	if found[0] == found[1] {
		_, size := utf8.DecodeRuneInString(a.text[a.at:])
		a.at += size
		a.finished = a.finished || size == 0
	}
	return a.value(found), true
}

// value is a match as an object.
func (a *matches) value(found []int) map[string]any {
	a.runes += utf8.RuneCountInString(a.text[a.counted:found[0]])
	a.counted = found[0]
	captures := make([]any, 0, len(found)/2-1)
	for i := 2; i < len(found); i += 2 {
		capture := map[string]any{"name": nil, "offset": -1, "length": 0, "string": nil}
		if name := a.groups[i/2]; name != "" {
			capture["name"] = name
		}
		if from, to := found[i], found[i+1]; from >= 0 {
			a.work((to - found[0]) >> 9)
			capture["offset"] = a.runes + utf8.RuneCountInString(a.text[found[0]:from])
			capture["length"] = utf8.RuneCountInString(a.text[from:to])
			capture["string"] = a.text[from:to]
		}
		captures = append(captures, capture)
	}
	whole := a.text[found[0]:found[1]]
	return map[string]any{"offset": a.runes, "length": utf8.RuneCountInString(whole), "string": whole, "captures": captures}
}

// find returns the next match by where it and its groups begin and end, nil for none.
func (a *matches) find() []int {
	re, from := a.plain, a.at
	if a.at > 0 && a.after != nil {
		_, size := utf8.DecodeLastRuneInString(a.text[:a.at])
		re, from = a.after, a.at-size
	}
	text := a.text[from:]
	var found []int
	if product(len(text), a.size) <= maxFind {
		found = re.FindStringSubmatchIndex(text)
		a.work(1 + len(text)*a.size>>15)
	} else {
		found = re.FindReaderSubmatchIndex(&reader{meter: &a.meter, text: text, cost: 1 + a.size>>4})
	}
	if found == nil || a.err != nil {
		return nil
	}
	if re == a.after {
		found = found[2:]
	}
	for i := range found {
		if found[i] >= 0 {
			found[i] += from
		}
	}
	return found
}

// reader ends when the run does, so that a search does too.
type reader struct {
	*meter
	text string
	at   int
	cost int
}

// ReadRune is io.RuneReader's.
func (r *reader) ReadRune() (rune, int, error) {
	if r.at >= len(r.text) || !r.work(r.cost) {
		return 0, 0, io.EOF
	}
	c, size := utf8.DecodeRuneInString(r.text[r.at:])
	r.at += size
	return c, size, nil
}

// CheckRegexp returns the error with which match, test, sub and their like fail for re, if they do.
func CheckRegexp(re, flags string) error {
	_, err := compileRegexp(re, flags)
	return err
}
