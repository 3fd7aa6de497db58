package upstream

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A program that fails in NEXT does not keep the page back that it failed for. That is counted and said, and where the cursor has gone on
// it is a gap, since pages may be missing.
func TestFailingNextKeepsThePage(t *testing.T) {
	const next = `if .bad then error("s3cret") else .next end`
	pages := func(n int, r *http.Request) string { // two pages; the second poll does not find the second page
		page := r.URL.Query().Get("page")
		switch {
		case page == "2":
			return `{"items":[{"id":3},{"id":4}]}`
		case n == 3:
			return `{"bad":true,"n":3,"items":[{"id":0},{"id":1},{"id":2}]}`
		}
		return fmt.Sprintf(`{"next":"?page=2","n":%d,"items":[{"id":1},{"id":2}]}`, n)
	}
	for name, c := range map[string]struct {
		s    SourceSettings
		want []string
	}{
		"items":          {SourceSettings{Mode: ModeItems, Select: ".items[]", ID: ".id"}, []string{`{"id":1}#1 {"id":2}#2 {"id":3}#3 {"id":4}#4`, `{"id":0}#0`}},
		"items, no ids":  {SourceSettings{Mode: ModeItems, Select: ".items[]"}, []string{`{"id":1} {"id":2} {"id":3} {"id":4}`, `{"id":0}`}},
		"changes":        {SourceSettings{Select: ".items[]|.id"}, []string{"1 2 3 4", "0 1 2", "1 2 3 4"}},
		"after a cursor": {SourceSettings{From: "http://legacy/?after={stream.cursor:0}", Cursor: ".n", Select: ".items[]|.id"}, []string{"1 2 3 4", "0 1 2 gap upstream", "1 2 3 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-None-Match") == `"3"` {
					t.Error("the answer that was not understood is taken for known")
				}
				w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
				fmt.Fprint(w, pages(n, r))
			}}
			c.s.Next, c.s.Every = next, 10*time.Second
			polled(t, c.s, a, func(k *taking) {
				time.Sleep(25 * time.Second)
				if got := k.texts(); !slices.Equal(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
				if failed := k.route.Stats.JQFailed.Load(); failed != 1 {
					t.Errorf("%d failures are counted", failed)
				}
				if text := k.log.String(); !strings.Contains(text, "jq program failed, the next page is not requested") || strings.Contains(text, "s3cret") {
					t.Errorf("the log: %s", text)
				}
			})
		})
	}
}
