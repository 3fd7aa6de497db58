package dialect

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"sidestream/translate"
)

// maxServerText bounds what a log shows of a text that the legacy service wrote, in characters.
const maxServerText = 100

// serverText makes a text of the legacy service fit for an error: printable, on one line, short, and with … in place of whatever may
// be a secret, which is any word that is not a plain one.
func serverText(text string) string {
	named := false // what comes next is a secret
	return spoken.ReplaceAllStringFunc(printable(text), func(word string) string {
		bare := strings.TrimFunc(word, unicode.IsPunct)
		hidden := named && bare != ""
		named = translate.NamesSecret(bare) && strings.HasSuffix(word, ":")
		if name, value, assigned := strings.Cut(word, "="); assigned && value != "" {
			return plainOnly(name) + "=…"
		}
		if hidden {
			return "…"
		}
		return plainOnly(word)
	})
}

var spoken = regexp.MustCompile(`\S+`)

// plainOnly is word, with … in place of what is long and random in it, or mixes letters and digits.
func plainOnly(word string) string {
	bare := strings.TrimFunc(word, unicode.IsPunct)
	if !translate.LooksSecret(bare) && !(len(bare) > maxMixed && mixed(bare)) {
		return word
	}
	return strings.Replace(word, bare, "…", 1)
}

// maxMixed is how many bytes a word may have that holds letters and digits, such as v1.2.
const maxMixed = 4

func mixed(word string) bool {
	return strings.ContainsFunc(word, unicode.IsLetter) && strings.ContainsFunc(word, unicode.IsDigit)
}

// printable is text on one line, short, without what cannot be printed.
func printable(text string) string {
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

// without is text with … in place of each secret. The longest go first: one may be part of another.
func without(text string, secrets []string) string {
	longest := slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range longest {
		if len(secret) > 2 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}
