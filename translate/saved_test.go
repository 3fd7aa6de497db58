package translate

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
)

func TestSavedState(t *testing.T) {
	s := new(State)
	if err := s.merge(map[string]any{"text": "a \"b\"\n", "number": json.Number("12345678901234567"), "list": []any{1, "x", nil, true}, "empty": "", "object": map[string]any{"a": map[string]any{}}}); err != nil {
		t.Fatal(err)
	}
	again := new(State)
	if err := again.Restore(s.Save()); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(again.texts, s.texts) || again.Len() != s.Len() || string(again.Save()) != string(s.Save()) {
		t.Errorf("%v became %v", s.texts, again.texts)
	}
	if saved := new(State).Save(); saved != nil || again.Restore(nil) != nil || again.Len() != 0 {
		t.Errorf("nothing is %q", saved)
	}
	for _, hostile := range []string{"\x01", "\x05ab", "\x01a\x01{", "\x01a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if err := again.Restore([]byte(hostile)); !errors.Is(err, ErrSaved) || again.Len() != 0 {
			t.Errorf("%q: %v, %d names", hostile, err, again.Len())
		}
	}
}

func TestSavedFields(t *testing.T) {
	saved := AppendField(AppendField(nil, "a"), []byte{})
	if fields, err := CutFields(saved, 2); err != nil || fields[0] != "a" || fields[1] != "" {
		t.Errorf("%q, %v", fields, err)
	}
	for _, want := range []int{1, 3} {
		if _, err := CutFields(saved, want); !errors.Is(err, ErrSaved) {
			t.Errorf("%d: %v", want, err)
		}
	}
}
