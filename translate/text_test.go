package translate

import (
	"errors"
	"testing"
)

func same(s string) (string, error) { return s, nil }

func TestTextFill(t *testing.T) {
	failing := errors.New("no")
	in := Literal("a").Append("").Append("b").AppendStream("n", "", same).Append("c").AppendStream("n", "", same).AppendStream("x", "", same)
	var c Counter
	if s, err := in.Fill(c.Value); err != nil || s != "ab1c2" {
		t.Errorf("%q, %v", s, err)
	}
	if s, err := in.Fill(c.Value); err != nil || s != "ab3c4" {
		t.Errorf("the second time: %q, %v", s, err)
	}
	if _, err := in.AppendStream("n", "", func(string) (string, error) { return "", failing }).Fill(c.Value); err != failing {
		t.Errorf("%v", err)
	}
	if !(Text{}).Empty() || !Literal("").Empty() || in.Empty() {
		t.Error("what is empty")
	}
	base := Literal("a").AppendStream("n", "", same)
	one, two := base.Append("x"), base.Append("y")
	if string(one.Identity(nil)) == string(two.Identity(nil)) {
		t.Error("two texts of one base share their parts")
	}
}

func TestTextIdentity(t *testing.T) {
	seen := map[string]string{}
	for name, in := range map[string]Text{
		"empty": {}, "n": Text{}.AppendStream("n", "", same), "literal n": Literal("n"), "written": Literal("{stream.n}"), "cursor": Text{}.AppendStream("cursor", "", same), "with a default": Text{}.AppendStream("cursor", "0", same),
		"n after": Literal("a").AppendStream("n", "", same), "n before": Text{}.AppendStream("n", "", same).Append("a"), "an": Literal("an"), "looks alike": Literal("1;l1:a"),
	} {
		id := string(in.Identity(nil))
		if other, twice := seen[id]; twice {
			t.Errorf("%s and %s are both %q", name, other, id)
		}
		seen[id] = name
	}
}
