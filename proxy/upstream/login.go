package upstream

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"sidestream/translate"
)

// login is the error of an answer that is 2xx and a page to log in at rather than what was asked for, nil of any other: where a
// redirect ends in another media type, and, where data is needed, any page of HTML that turned out to hold none.
func login(resp *http.Response, needed, data bool) error {
	if data {
		return nil
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return nil
	}
	if redirected(resp) && !acceptable(resp.Request.Header.Values("Accept"), media) {
		return passing(http.StatusUnauthorized, fmt.Sprintf("redirected to %s, which was not asked for, probably a login (if it is none, ask for it in HEADERS, Accept)", safeMedia(media)))
	}
	if needed && translate.IsPage(media) {
		return passing(http.StatusUnauthorized, "answered with a page of HTML, probably a login")
	}
	return nil
}

// redirected reports whether an answer came after a redirect that was followed.
func redirected(resp *http.Response) bool { return resp.Request != nil && resp.Request.Response != nil }

// acceptable reports whether media is among what was asked for (RFC 9110, section 12.5.1).
func acceptable(accept []string, media string) bool {
	asked := strings.Join(accept, ",")
	if strings.TrimSpace(asked) == "" {
		return true
	}
	for one := range strings.SplitSeq(asked, ",") {
		name, _, err := mime.ParseMediaType(one)
		kind, all := strings.CutSuffix(name, "/*")
		if err == nil && (name == media || name == "*/*" || all && strings.HasPrefix(media, kind+"/")) {
			return true
		}
	}
	return false
}

// safeMedia shows a media type of the upstream's if it is one.
func safeMedia(media string) string {
	kind, sub, _ := strings.Cut(media, "/")
	if len(media) > 60 || !headerToken.MatchString(kind) || !headerToken.MatchString(sub) {
		return "an unknown type"
	}
	return media
}
