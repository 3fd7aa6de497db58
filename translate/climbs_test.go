package translate

import "testing"

func TestClimbs(t *testing.T) {
	for path, want := range map[string]bool{
		"/a/b": false, "/": false, "": false, "/a..b/...": false, "/a%2Fb": false, `/a\b`: false, "/a;b=..": false, "/%2e": true,
		"/a/../b": true, "/./b": true, "/..": true, "/a/%2e%2E/b": true, "/..%2fadmin": true, `/..\..\admin`: true, "/a%5C..%5Cb": true, "/..;x=1/b": true,
		"/a%zz": true,
	} {
		if got := Climbs(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
