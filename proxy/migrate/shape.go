// This file makes paths, pages and browsers into what may be kept and shown: few, and nobody's in particular.

package migrate

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	maxShape    = 120 // bytes of a path
	maxSegments = 12
	longWord    = 20 // bytes of a segment
)

// Segments with digits that are words all the same: what has digits and is none of these names one thing among many.
var (
	wordWithDigits = regexp.MustCompile(`^(v\d{1,3}((alpha|beta|rc)\d{0,2})?|[A-Za-z][a-z]{0,11}\d|\d{4}(q[1-4]|h[12])|(?i:sha\d{1,3}|base(32|64)|utf(8|16)|h26\d|x509|i18n|l10n|k8s|p2p|b2b|b2c|log4j|2fa|3d))$`)
	version        = regexp.MustCompile(`^v?\d{1,2}(\.\d{1,2}){1,2}$`)
	fileName       = regexp.MustCompile(`^[a-z_-]{1,19}(\.(v?\d{1,3}|min)){0,2}\.(aspx?|css|do|html?|ico|jpe?g|js|json|jsp|map|mjs|mp[34]|php|png|svc|svg|txt|wasm|webp|woff2?|xml)$`)
	camelCase      = regexp.MustCompile(`^[A-Za-z][a-z]{2,}([A-Z][a-z]*[aeiouy][a-z]*)+$`)
)

// Shape is path with {id} for its segments that name one thing among many; [Other] where it is too long.
func Shape(path string) string {
	segments := strings.Split(path, "/")
	if len(segments) > maxSegments || len(path) > 8*maxShape {
		return Other
	}
	for i, s := range segments {
		if isID(s) {
			segments[i] = "{id}"
		}
	}
	shape := strings.Join(segments, "/")
	if len(shape) > maxShape {
		return Other
	}
	return shape
}

// isID reports whether a segment names one thing among many, or may be a secret: a number, a hash, letters and digits at random. It is rather taken
// for one than shown.
func isID(s string) bool {
	if len(s) >= longWord || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`%{}<>"'\@=;&`+"`", r) }) {
		return true
	}
	digits := strings.ContainsAny(s, "0123456789")
	if version.MatchString(s) || fileName.MatchString(s) {
		return false
	}
	if digits && strings.ContainsAny(s, ".~+$") {
		return true
	}
	return slices.ContainsFunc(strings.FieldsFunc(s, func(r rune) bool { return !alphanumeric(r) }), func(part string) bool { return isRandom(part, len(part) == len(s)) })
}

func alphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// isRandom reports whether letters and digits are no word; alone: there is nothing beside them.
func isRandom(s string, alone bool) bool {
	if strings.ContainsAny(s, "0123456789") {
		one := !alone && len(s) == 1 // feed-2
		return !one && !wordWithDigits.MatchString(s)
	}
	mixed := strings.ToLower(s) != s && strings.ToUpper(s) != s
	return len(s) >= 8 && mixed && !camelCase.MatchString(s) && strings.ToLower(s[1:]) != s[1:]
}

// pageOf is the page that a request comes from: the path of its Referer, or the host of its Origin, which is all that browsers tell of a
// WebSocket.
func pageOf(r *http.Request) string {
	if u, err := url.Parse(r.Referer()); err == nil && u.Host != "" {
		return Shape("/" + strings.TrimPrefix(u.EscapedPath(), "/"))
	}
	if u, err := url.Parse(r.Header.Get("Origin")); err == nil && u.Host != "" && len(u.Host) <= maxShape && !strings.ContainsFunc(u.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return strings.ToLower(u.Host)
	}
	return ""
}

// browsers are families, by what their User-Agent holds; the first that fits counts, as most pretend to be others too.
var browsers = []struct{ holds, name string }{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"HeadlessChrome/", "Chrome"},
	{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Trident/", "Internet Explorer"}, {"MSIE ", "Internet Explorer"}, {"Safari/", "Safari"}, {"okhttp/", "OkHttp"}, {"Dart/", "Dart"},
	{"CFNetwork/", "iOS app"}, {"Java/", "Java"}, {"Apache-HttpClient/", "Java"}, {"python-", "Python"}, {"Python/", "Python"}, {"aiohttp/", "Python"}, {"Go-http-client/", "Go"},
	{"curl/", "curl"}, {"node", "Node.js"}, {"undici", "Node.js"}, {"axios/", "Node.js"}, {".NET", ".NET"},
}

// browserOf is the family of a User-Agent.
func browserOf(agent string) string {
	if agent == "" {
		return "none told"
	}
	for _, b := range browsers {
		if strings.Contains(agent, b.holds) {
			return b.name
		}
	}
	return "other"
}

// Pattern is an old path, some of whose segments may stand for anything: {name}, and at the end {name...} for any number of them.
type Pattern string

// Match reports whether path is one of the pattern's. It is asked of whatever passes through, and allocates nothing.
func (p Pattern) Match(path string) bool {
	rest, more := string(p), true
	for more {
		var want, got string
		want, rest, more = strings.Cut(rest, "/")
		if !more && strings.HasPrefix(want, "{") && strings.HasSuffix(want, "...}") {
			return true
		}
		var left bool
		got, path, left = strings.Cut(path, "/")
		if wild := strings.HasPrefix(want, "{") && strings.HasSuffix(want, "}"); wild && got == "" || !wild && got != want || left != more {
			return false
		}
	}
	return true
}

// May reports whether shape, which paths were made into by [Shape] or another pattern, may stand for one of the pattern's: its {...} for a name
// that the pattern has.
func (p Pattern) May(shape string) bool {
	want, got := strings.Split(string(p), "/"), strings.Split(shape, "/")
	for i, w := range want {
		switch {
		case strings.HasSuffix(w, "...}"):
			return len(got) > i
		case i >= len(got):
			return false
		case strings.HasSuffix(got[i], "...}"):
			return true
		case !strings.HasPrefix(w, "{") && !strings.HasPrefix(got[i], "{") && w != got[i]:
			return false
		}
	}
	return len(want) == len(got)
}
