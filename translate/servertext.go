package translate

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
)

// maxServerText bounds what a log shows of a text that the legacy service wrote, in characters.
const maxServerText = 100

// serverText makes a text of the legacy service fit for an error: printable, on one line, and short.
func serverText(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxServerText {
			b.WriteString("…")
			break
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// cutWord splits a line at its first blanks.
func cutWord(line string) (word, rest string) {
	line = strings.TrimSpace(line)
	if blank := strings.IndexAny(line, " \t\r\n"); blank >= 0 {
		return line[:blank], strings.TrimSpace(line[blank:])
	}
	return line, ""
}

// without is text with each secret left out. The longest go first: one may be a part of another.
func without(text string, secrets []string) string {
	longest := slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range longest {
		if len(secret) > 2 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}
