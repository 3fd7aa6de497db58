package upstream

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// The values of a client's path name a stream, wherever the upstream gets them; what looks like a token, and everything else of the
// request, is not shown.
func TestPathIsShown(t *testing.T) {
	rt, err := Compile(SourceSettings{From: "ws://legacy/feed?job={path.id}&k={path.key}&t={query.token}", Hello: "> {path.id} {path.id} {path.long}", PathNames: []string{"id", "key", "long"}})
	if err != nil {
		t.Fatal(err)
	}
	token := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
	values := map[string]string{"id": "42", "key": token, "long": strings.Repeat("é", 300)}
	q, err := rt.Expand(httptest.NewRequest("GET", "/?token=hunter2", nil), func(name string) string { return values[name] })
	if err != nil {
		t.Fatal(err)
	}
	got := q.Path()
	if len(got) != 3 || !slices.Contains(got, Named{"id", "42"}) || !slices.Contains(got, Named{"key", "…"}) {
		t.Errorf("%v", got)
	}
	for _, one := range got {
		if len(one.Value) > maxShown+len("…") || strings.Contains(one.Value, "\ufffd") || strings.Contains(one.Value, "hunter2") {
			t.Errorf("%q", one.Value)
		}
	}
}
