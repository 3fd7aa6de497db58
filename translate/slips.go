// This file tells slips in a program, which jq takes for something else or for nothing that it knows.

package translate

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/itchyny/gojq"
)

// errAssigns is a condition with one = sign.
var errAssigns = errors.New(`assigns with = where something is asked, which is true for every message; write == to compare`)

// checkConditions returns an error where a condition of q, what select is given or what stands between if and then, assigns.
func checkConditions(q *gojq.Query) (err error) {
	each(reflect.ValueOf(q), func(v any) {
		switch v := v.(type) {
		case *gojq.Func:
			if v.Name == "select" && len(v.Args) == 1 && assigns(v.Args[0]) {
				err = errAssigns
			}
		case *gojq.If:
			if assigns(v.Cond) {
				err = errAssigns
			}
		}
	})
	return err
}

// assigns reports whether q, or a part of it that and, or, a pipe or brackets join, is an assignment.
func assigns(q *gojq.Query) bool {
	switch {
	case q == nil:
		return false
	case q.Op == gojq.OpAssign:
		return true
	case q.Op == gojq.OpAnd || q.Op == gojq.OpOr:
		return assigns(q.Left) || assigns(q.Right)
	case q.Op == gojq.OpPipe:
		return assigns(q.Right)
	}
	t := q.Term
	return t != nil && t.Type == gojq.TermTypeQuery && len(t.SuffixList) == 0 && assigns(t.Query)
}

// field returns what a program is that is nothing but a function of jq's own that people mean a field by; "" for any other.
func field(q *gojq.Query) string {
	if t := q.Term; q.Op == 0 && len(q.FuncDefs) == 0 && t != nil && t.Type == gojq.TermTypeFunc && len(t.SuffixList) == 0 && len(t.Func.Args) == 0 {
		if name := t.Func.Name; name == "type" || name == "length" || name == "keys" || name == "input_line_number" {
			return name
		}
	}
	return ""
}

var undefined = regexp.MustCompile(`function not defined: ([A-Za-z_][A-Za-z0-9_]*)/0`)

// missing is what jq has and programs here do not, and what stands in for it.
var missing = map[string]string{
	"keys_unsorted": "an object's members come in the order of their names: write keys", "debug": "sidestream tap shows what a program makes of each message", "stderr": "sidestream tap shows what a program makes of each message",
	"input_line_number": "a program sees one message", "input_filename": "a program sees one message", "get_search_list": "of jq's functions it is one that is not there",
}

// hint spots the most common slips: a name without quotes or without its dot, and what other languages write.
func hint(src string, err error) string {
	text := err.Error()
	switch name := undefined.FindStringSubmatch(text); {
	case name != nil && missing[name[1]] != "":
		return " (" + missing[name[1]] + ")"
	case strings.Contains(text, "variable not defined: $__loc__"):
		return " (of jq's functions it is one that is not there)"
	case name != nil && !strings.ContainsAny(src, " .|()"):
		return fmt.Sprintf(" (a constant is written with its quotes: %q) (a field with its dot: .%s)", src, name[1])
	case name != nil:
		return fmt.Sprintf(" (a field is written with its dot: .%s)", name[1])
	case strings.Contains(src, "===") || strings.Contains(src, "!=="):
		return " (jq compares with == and !=)"
	case strings.Contains(src, "&&") || strings.Contains(src, "||"):
		return " (jq writes and, or)"
	case strings.Contains(text, `unexpected token "'"`):
		return " (jq's texts are in double quotes)"
	}
	return ""
}
