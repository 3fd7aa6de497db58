// This file is the places of placeholders and their escapes: where a value stands decides what it may hold and how it
// is written. Text that is JSON, or holds JSON in its strings (ActionCable's identifier, a GraphQL document), is
// followed by its quotes and brackets as deep as they go.

package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// segment keeps a value inside one segment of a URL path (RFC 3986, section 3.3).
func segment(v string) (string, error) {
	if v == "" || v == "." || v == ".." {
		return "", errors.New("is empty, . or .., which is not a path segment")
	}
	return url.PathEscape(v), nil
}

// queryValue keeps a value inside one value of a query or of a form.
func queryValue(v string) (string, error) { return url.QueryEscape(v), nil }

// queryWhole lets the separators of a query stand and encodes whatever is no query at all.
func queryWhole(v string) (string, error) {
	var b strings.Builder
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"#<>\^`+"`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// jsonString keeps a value inside a JSON string.
func jsonString(v string) (string, error) {
	if !utf8.ValidString(v) {
		return "", errors.New("is not UTF-8")
	}
	quoted := translate.AppendJSONString(nil, v, true)
	return string(quoted[1 : len(quoted)-1]), nil
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// jsonScalar lets only what cannot change the structure of the JSON around it.
func jsonScalar(v string) (string, error) {
	if v == "true" || v == "false" || v == "null" || jsonNumber.MatchString(v) {
		return v, nil
	}
	return "", errors.New("is in JSON outside a string, where only a number, true, false or null is allowed")
}

// plainText lets no control character through: a line is a field of most text protocols.
func plainText(v string) (string, error) {
	if strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) >= 0 {
		return "", errors.New("contains a control character, or is not UTF-8")
	}
	return v, nil
}

// headerValue keeps a value inside one header (RFC 9110, section 5.5).
func headerValue(v string) (string, error) {
	if strings.IndexFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
		return "", errors.New("contains a character that a header cannot")
	}
	return v, nil
}

var bareWord = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// word is for brackets inside a string, which may be of any language: nothing that has a meaning in one.
func word(v string) (string, error) {
	if bareWord.MatchString(v) {
		return v, nil
	}
	if _, err := jsonScalar(v); err == nil {
		return v, nil
	}
	return "", errors.New("is between brackets inside a string, where only letters, digits, - and _ are allowed")
}

func inHeader(string, bool) escape { return headerValue }

func inForm(_ string, whole bool) escape {
	if whole {
		return queryWhole
	}
	return queryValue
}

// inText follows the quotes and brackets of a frame or body, so that values in JSON stay values.
func inText() place {
	var at nesting
	return func(literal string, _ bool) escape {
		for _, r := range literal {
			at.read(r)
		}
		return at.escape(0)
	}
}

// inLine is for one line of SUBSCRIBE: a value in the topic cannot make another topic of it.
func inLine(kind dialect.Place, line string) place {
	if kind == dialect.TextLine || kind == dialect.NoSubscribe || kind == dialect.PathLine && !strings.HasPrefix(line, "/") {
		return inDocument()
	}
	text := inText()
	line = methodOf(kind, line)
	at, _ := placeholders(line)
	whole := len(at) > 0 && at[0].from == 0 && (at[0].to == len(line) || strings.IndexByte(" \t", line[at[0].to]) >= 0)
	if kind == dialect.DottedLine && dotted(line) {
		kind = dialect.SubjectLine
	}
	more := kind == dialect.NamespaceLine
	var before string
	first, past := true, false // the topic
	return func(literal string, all bool) escape {
		if past {
			return text(literal, all)
		}
		if first {
			literal, first = methodOf(kind, literal), false
		}
		before += literal
		if blank := strings.IndexAny(before, " \t"); blank >= 0 {
			past = true
			return text(before[blank:], all)
		}
		if more && strings.Contains(before, "?") {
			return inForm("", all)
		}
		return topic(barred(kind, whole, before))
	}
}

// inDocument is for a document of GraphQL, or JSON. Outside of brackets and strings there are names alone, which a value must not go beyond: after it everything may be
// a comment.
func inDocument() place {
	var at nesting
	return func(literal string, _ bool) escape {
		for _, r := range literal {
			at.read(r)
		}
		if at.string == nil && at.depth == 0 {
			return documentName
		}
		return at.escape(0)
	}
}

func documentName(v string) (string, error) {
	if !bareWord.MatchString(v) {
		return "", errors.New("is outside of what has brackets or quotes around it, where only letters, digits, - and _ are allowed")
	}
	return v, nil
}

// dotted reports whether a topic has a dot beside the values in it.
func dotted(line string) bool {
	rest := replaced(line, "\x00")
	if blank := strings.IndexAny(rest, " \t"); blank >= 0 {
		rest = rest[:blank]
	}
	return strings.Contains(rest, ".")
}

// methodOf is a MethodLine without the word that may stand before its name.
func methodOf(kind dialect.Place, line string) string {
	if rest, ok := strings.CutPrefix(line, "stream"); ok && kind == dialect.MethodLine && rest != "" && strings.IndexByte(" \t", rest[0]) >= 0 {
		return strings.TrimLeft(rest, " \t")
	}
	return line
}

// barred is what a value in a topic must not hold, after what stands before it: what makes another level of it, unless the value is the whole of it, and
// wildcards. In a NamespaceLine it may neither begin a query nor end a name.
func barred(kind dialect.Place, whole bool, before string) string {
	barred := "+#*>"
	if !whole {
		barred += "/"
	}
	switch {
	case kind == dialect.NamespaceLine:
		barred += "?,"
	case kind == dialect.MemberLine, kind == dialect.SubjectLine && !whole:
		barred += "."
	case kind == dialect.ChannelLine && !whole && !strings.Contains(before, ":"):
		barred += ":"
	}
	return barred
}

// topic keeps a value inside one level of a topic or destination, or inside the topic it is the whole of; and it is no
// wildcard.
func topic(barred string) escape {
	return func(v string) (string, error) {
		if strings.ContainsAny(v, barred) {
			return "", fmt.Errorf("is in a topic, where none of %s is allowed", barred)
		}
		if strings.ContainsFunc(v, unicode.IsSpace) {
			return "", errors.New("is in a topic, where no space is allowed")
		}
		return plainText(v)
	}
}

// maxNesting bounds how many strings inside strings are followed: beyond it no one can read the template either.
const maxNesting = 4

// nesting is where in a JSON text one stands. A string may hold such a text itself.
type nesting struct {
	depth  int      // of brackets and braces
	string *nesting // inside a string: where in what it holds
	begun  string   // inside a string: the escape sequence begun
	head   string   // what was read outside of brackets, as long as it may be the head of a GraphQL operation
	parens bool     // it was: parentheses are brackets too
}

// graphQLHead is the beginning of an operation or a fragment up to the first parenthesis of its variables, or of a directive's arguments.
var graphQLHead = func() *regexp.Regexp {
	const ignored = `(?:[\s,]|#[^\n]*\n)` // blanks, commas and comments
	return regexp.MustCompile(`^` + ignored + `*(?:subscription|query|mutation|fragment)\b(?:[\w@]|` + ignored + `)*(?:\(` + ignored + `*\$|@\w+` + ignored + `*\()$`)
}()

// maxOperationHead bounds how far a head is read, in bytes.
const maxOperationHead = 1 << 10

// read takes the next character.
func (n *nesting) read(r rune) {
	switch {
	case n.string == nil:
		n.outside(r)
	case n.begun != "":
		n.escaped(r)
	case r == '\\':
		n.begun = `\`
	case r == '"':
		n.string = nil
	default:
		n.string.read(r)
	}
}

func (n *nesting) outside(r rune) {
	switch r {
	case '"':
		n.string = new(nesting)
	case '{', '[':
		n.depth++
	case '}', ']':
		n.close()
	case '(':
		if n.parens {
			n.depth++
		}
	case ')':
		if n.parens {
			n.close()
		}
	}
	n.heads(r)
}

// close ends a bracket. One that closes nothing opens nothing either.
func (n *nesting) close() { n.depth = max(0, n.depth-1) }

// heads looks out for the head of an operation, of which a document may have several.
func (n *nesting) heads(r rune) {
	switch {
	case n.parens || n.depth > 0 || len(n.head) > maxOperationHead:
	case r == '}':
		n.head = ""
	default:
		n.head += string(r)
		if n.parens = graphQLHead.MatchString(n.head); n.parens {
			n.depth++
		}
	}
}

// escaped goes on with an escape sequence and gives what it stands for to the text inside.
func (n *nesting) escaped(r rune) {
	n.begun += string(r)
	if n.begun[1] == 'u' && len(n.begun) < len(`\u0000`) {
		return
	}
	c, _, _, err := strconv.UnquoteChar(n.begun, '"')
	if err == nil {
		n.string.read(c)
	}
	n.begun = ""
}

// escape is for a placeholder that stands here, inside level strings.
func (n *nesting) escape(level int) escape {
	switch {
	case n.string != nil && level >= maxNesting:
		return nil
	case n.string != nil:
		inner := n.string.escape(level + 1)
		if inner == nil {
			return nil
		}
		return func(v string) (string, error) {
			v, err := inner(v)
			if err != nil {
				return "", err
			}
			return jsonString(v)
		}
	case n.depth > 0 && level == 0:
		return jsonScalar
	case n.depth > 0:
		return word
	case level > 0:
		return anyText
	default:
		return plainText
	}
}

// anyText is for a value that a string around it makes harmless.
func anyText(v string) (string, error) { return v, nil }

// inURL lets placeholders stand in the path and in the query.
func inURL() place {
	var before string
	return func(literal string, whole bool) escape {
		before += literal
		_, rest, _ := strings.Cut(before, "://")
		switch {
		case strings.Contains(rest, "?"):
			return inForm("", whole)
		case strings.Contains(rest, "/"):
			return segment
		default:
			return nil
		}
	}
}
