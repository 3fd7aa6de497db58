package graphql

import (
	"strings"
	"unicode/utf8"
)

// token is a lexical token: a punctuator, a name, a number, or a string as it is written.
type token string

// maxTokens bounds a document.
const maxTokens = 10_000

const punctuators = "!$&()[]{}:=@|"

// lex takes a document apart. White space, commas, comments and byte order marks are left out (section 2.1).
func lex(text string) (tokens []token, problem *Problem) {
	if !utf8.ValidString(text) {
		return nil, syntax("the document is not UTF-8")
	}
	for text != "" {
		rest := strings.TrimLeft(text, " \t\r\n,\uFEFF")
		if strings.HasPrefix(rest, "#") {
			if at := strings.IndexAny(rest, "\r\n"); at >= 0 {
				text = rest[at:]
				continue
			}
			break
		}
		if rest == "" {
			break
		}
		n := tokenLength(rest)
		if n <= 0 {
			return nil, syntax("the document holds something that is no token of GraphQL")
		}
		if len(tokens) == maxTokens {
			return nil, tooLarge("the document has more than 10000 tokens")
		}
		tokens, text = append(tokens, token(rest[:n])), rest[n:]
	}
	return tokens, nil
}

// tokenLength is that of the token that text begins with, in bytes; 0: it begins with none, or with one that does not end.
func tokenLength(text string) int {
	switch c := text[0]; {
	case strings.IndexByte(punctuators, c) >= 0:
		return 1
	case strings.HasPrefix(text, "..."):
		return 3
	case begins(c):
		return span(text, continues)
	case c == '-' || digit(c):
		return numberLength(text)
	case strings.HasPrefix(text, `"""`):
		return blockLength(text)
	case c == '"':
		return stringLength(text)
	}
	return 0
}

func span(text string, in func(byte) bool) (n int) {
	for n < len(text) && in(text[n]) {
		n++
	}
	return n
}

func begins(c byte) bool    { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool     { return c >= '0' && c <= '9' }
func continues(c byte) bool { return begins(c) || digit(c) }

// numberLength is that of a number. One that is not well formed is for the service to refuse, but it is one token.
func numberLength(text string) int {
	n := 1 + span(text[1:], func(c byte) bool { return digit(c) || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-' })
	if n < len(text) && begins(text[n]) || text == "-" {
		return 0
	}
	return n
}

func stringLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '\n', '\r':
			return 0
		case '"':
			return i + 1
		}
	}
	return 0
}

func blockLength(text string) int {
	for i := 3; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], `\"""`):
			i += 3
		case strings.HasPrefix(text[i:], `"""`):
			return i + 3
		}
	}
	return 0
}

// normal is a document by its tokens alone.
func normal(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(string(t))
		b.WriteByte(0) // which no token holds: it is no character of a document
	}
	return b.String()
}
