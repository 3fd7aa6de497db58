package translate

import (
	"net/url"
	"strings"
)

// Climbs reports whether some server may take path, with its escapes, for one that goes up or stays: it has a segment . or ..,
// possibly between backslashes, after an escaped slash, or with parameters after a semicolon.
func Climbs(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(plain, `\`, "/"), "/") {
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
