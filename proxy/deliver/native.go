// This file tells an EventSource of a browser, or one that behaves like it, from clients that read an event stream by
// fetch. The rules:
//
//   - An EventSource makes no request but GET, and sends Cache-Control: no-cache (HTML Living Standard, 9.2.2: its cache mode is no-store). So does a fetch
//     whose cache mode is no-store, or in a browser whose cache is disabled: the two cannot be told apart. Hence what is done
//     for an EventSource is done only where it needs it, and not in Chromium and Firefox (tried: 156, and ESR 153): they drop
//     what is left of an answer, and notice every end of one.
//   - WebKit (tried: WebKitGTK 2.50.6) joins half an event to the first bytes of the next answer, so that begins with what
//     takes it in. Over HTTP/2 it notices the end of an answer by END_STREAM alone, neither by RST_STREAM nor by GOAWAY.
//   - Others that send that header may take a clean end for the end of all: r3labs/sse 2.10.0 for Go does not come back after one. So that is for who says
//     that it is WebKit, or, since an application may have it say anything, sends Sec-Fetch-Dest, as browsers do and Node's fetch does not.

package deliver

import (
	"net/http"
	"strings"
)

// ending is isClean where an answer to r, which looks native or not, must end cleanly for its client to come back: WebKit's, or who may be that.
func ending(native bool, r *http.Request) flags {
	if native && r.ProtoMajor > 1 && (strings.Contains(r.UserAgent(), "AppleWebKit/") || r.Header.Get("Sec-Fetch-Dest") != "") {
		return isClean
	}
	return 0
}

// looksNative reports whether r is most likely an EventSource's that keeps what it was cut in, or misses cuts.
func looksNative(r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.EqualFold(strings.TrimSpace(r.Header.Get("Cache-Control")), "no-cache") {
		return false
	}
	agent := r.UserAgent()
	return !strings.Contains(agent, "Chrome/") && !strings.Contains(agent, "Firefox/")
}
