package translate

import (
	"strings"
	"testing"
)

func TestRegexpsAreChecked(t *testing.T) {
	for src, want := range map[string]string{
		`test("(?<=a)b")`:                        "test would fail for every message: invalid regular expression",
		`select(.a|test("(?!x)"))`:               "test would fail",
		`[.[]|match(["(", "g"])]`:                "match would fail",
		`{a:(.b|sub("(a)\\1";"x"))}`:             "sub would fail",
		`gsub("a";"b";"x")`:                      `unsupported regular expression flag: "x"`,
		`split("(";"g")`:                         "split would fail",
		`if .a then scan("[") else . end`:        "scan would fail",
		`.a|=splits("*")`:                        "splits would fail",
		`def f: capture("(?P<a"); f`:             "capture would fail",
		`reduce .[] as $x (0; .+($x|test("+")))`: "test would fail",
		`"\(test("("))"`:                         "test would fail",
		`test("a{1000}{1000}")`:                  "test would fail",
		`test("(?<n>a)b+?\\b")`:                  "",
		`test(["a","gi"])`:                       "",
		`test(.re)`:                              "",
		`split("(")`:                             "", // no regular expression with one argument
		`def test($x): $x; test("(")`:            "",
		`sub("a";"(")`:                           "",
		`gsub("(?<x>a)";"\(.x)(")`:               "",
	} {
		_, err := CompileJQ("SELECT", src)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}

func TestConstant(t *testing.T) {
	for src, want := range map[string]bool{
		`"price"`: true, `1`: true, `-1`: true, `null`: true, `"a","b"`: true, `["a",{b:1}]`: true, `"a"+"b"`: true, `("x")`: true, `"x"|"y"`: true, `"\("x")"`: true, `1==1`: true,
		`true`: false, `false`: false, `.`: false, `.a`: false, `..`: false, `select(.a)`: false, `empty`: false, `event=="x"`: false, `$event`: false, `{a}`: false, `"\(.a)"`: false,
		`.a|"x"`: false, `if .a then 1 else 2 end`: false, `@base64`: false, `[.[]]`: false, `now`: false, `def f: .a; f`: false, `.a=="x"`: false, `"x"|.a`: false,
	} {
		if got := compiled(t, "SELECT", src).Constant(); got != want {
			t.Errorf("%s: %v", src, got)
		}
	}
}
