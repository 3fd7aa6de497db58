// This file tells words that name things from words that may be secrets, so that the first can be shown to an operator. When in doubt a
// word is a secret: what is hidden without need costs a look at the configuration.

package translate

import (
	"regexp"
	"strings"
)

// maxRandom is how many characters of a text may be of no word before it is taken for a token: those that are shorter could be
// guessed.
const maxRandom = 15

var (
	// tokenShape is what well-known tokens begin with: Telegram's bots, JWTs, and what cloud services print in front of theirs.
	tokenShape = regexp.MustCompile(`^(?:(?i:bot)?[0-9]{3,}(?::|%3[Aa]).{2,}|eyJ[A-Za-z0-9_-]{5,}.*|(?:xox[a-z]|xapp|gh[a-z]|github_pat|glpat|sk|pk|rk|whsec|shp[a-z]{2}|npm|hf|SG|dop_v1|AKIA|ASIA|AIza)[-_.]?[A-Za-z0-9_-]*[0-9][A-Za-z0-9_.-]{5,})$`)
	tokenUUID  = regexp.MustCompile(`(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}`)
	wordlike   = regexp.MustCompile(`^(?:[a-z]{1,20}|[A-Z]{1,14}|[0-9]{1,20}|(?:[a-z]{1,12}|[A-Z][a-z]{0,11}|[A-Z]{2,12})[0-9]{1,4}|[0-9]{1,4}(?:[a-z]{1,8}|[A-Z]{1,8}))$`)
	letters    = regexp.MustCompile(`^[A-Za-z]{1,40}$`)
	between    = regexp.MustCompile(`(?:[^0-9A-Za-z]|%[0-9A-Fa-f]{2})+`)
	valued     = regexp.MustCompile(`(?i)^(?:.*[-_.])?(?:token|secret|passw(?:or)?d|passcode|api-?_?key|signature|credentials?)$`)
)

// LooksSecret reports whether text, one word or one segment of a path, may be a token: long and random, or of the shape of a
// well-known one.
func LooksSecret(text string) bool {
	if tokenShape.MatchString(text) || tokenUUID.MatchString(text) {
		return true
	}
	random := 0
	for _, piece := range between.Split(text, -1) {
		if !wordlike.MatchString(piece) && !camelCase(piece) && varied(piece) {
			random += len(piece)
		}
	}
	return random > maxRandom
}

// varied reports whether a piece has more than a few different characters.
func varied(piece string) bool {
	seen := map[rune]bool{}
	for _, r := range piece {
		seen[r] = true
	}
	return len(seen) > 3
}

// camelCase reports whether a piece is words put together, whose case changes less often than that of letters by chance.
func camelCase(piece string) bool {
	changes, uppers := 0, 0
	for i := range len(piece) {
		upper := piece[i] <= 'Z'
		if upper {
			uppers++
		}
		if i > 0 && upper != (piece[i-1] <= 'Z') {
			changes++
		}
	}
	return letters.MatchString(piece) && max(changes, uppers) <= len(piece)/3 && changes > 0
}

// NamesSecret reports whether what follows text, as a segment follows another or a value its name, is a secret.
func NamesSecret(text string) bool { return valued.MatchString(strings.TrimSpace(text)) }
