package translate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestStateIsBounded(t *testing.T) {
	s, code := new(State), compiled(t, "STATE", "objects")
	hear := func(frame any) error {
		t.Helper()
		data, err := json.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Take(context.Background(), code, Message{Data: data})
		if len(s.values) != len(s.texts) {
			t.Fatalf("%d values, %d texts", len(s.values), len(s.texts))
		}
		return err
	}
	for i := range maxStateNames {
		hear(map[string]int{fmt.Sprint(i): i})
	}
	most := strings.Repeat("x", maxStateValue)
	for _, test := range []struct {
		what  string
		frame map[string]any
		kept  bool
	}{
		{"one name more", map[string]any{"more": 1}, false},
		{"another value", map[string]any{"7": "other"}, true},
		{"a value of the most", map[string]any{"8": most}, true},
		{"a longer one", map[string]any{"9": most + "x"}, false},
		{"a longer list", map[string]any{"9": []string{most}}, false},
		{"one for another", map[string]any{"10": nil, "!": "first of all"}, true},
	} {
		what := test.what
		err := hear(test.frame)
		if (err == nil) != test.kept {
			t.Errorf("%s: %v", what, err)
		}
		var failed *ProgramError
		if err != nil && (!errors.As(err, &failed) || failed.Setting != "STATE" || strings.Contains(err.Error(), "xxx")) {
			t.Errorf("%s: the error is %v", what, err)
		}
	}
	if len(s.values) != maxStateNames || s.Text("7") != "other" || s.Text("8") != most || s.Text("9") != "9" || s.Text("10") != "" {
		t.Errorf("%d names: %v", len(s.values), slices.Sorted(maps.Keys(s.values)))
	}
	hear(map[string]any{"11": nil})
	if hear(map[string]int{strings.Repeat("n", maxStateName+1): 1}); len(s.values) != maxStateNames-1 {
		t.Error("a name without end is kept")
	}
}

func TestStateCatchUp(t *testing.T) {
	of := func(object map[string]any) (s State) { _ = s.merge(object); return s }
	begun := of(map[string]any{"kept": "0", "both": "0", "theirs": "0", "mine": "0", "gone": "0"})
	other, s := begun, begun
	_ = other.merge(map[string]any{"both": "other", "theirs": "other", "gone": nil, "new": "other"})
	_ = s.merge(map[string]any{"both": "s", "mine": nil, "own": "s"})
	s.CatchUp(begun, other)
	if got, want := s.JSON(), `{"both":"s","kept":"0","new":"other","own":"s","theirs":"other"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var none State
	none.CatchUp(State{}, other)
	if none.JSON() != other.JSON() {
		t.Error(none.JSON())
	}
}
