package translate

import (
	"strings"
	"testing"
)

func TestSlips(t *testing.T) {
	for src, want := range map[string]string{
		`select(.type="tick")`:          "write == to compare",
		`select(.a and .type="tick")`:   "write == to compare",
		`select((.type="tick"))`:        "write == to compare",
		`select(.a|.b="tick")`:          "write == to compare",
		`.items[]|select(.n=1)`:         "write == to compare",
		`if .a=1 then . else empty end`: "write == to compare",
		`select(.type==="tick")`:        "(jq compares with == and !=)",
		`select(.type!=="tick")`:        "(jq compares with == and !=)",
		`select(.type=='tick')`:         "(jq's texts are in double quotes)",
		`select(.a && .b)`:              "(jq writes and, or)",
		`select(price>1)`:               "(a field is written with its dot: .price)",
		`price`:                         `(a constant is written with its quotes: "price") (a field with its dot: .price)`,
		`keys_unsorted`:                 "write keys)",
		`.a|debug`:                      "tap shows what a program makes of each message)",
		`input_line_number`:             "a program sees one message)",
		`.a|$__loc__`:                   "one that is not there)",
		`.a="tick"`:                     "",
		`select(.type=="tick")|.a=1`:    "",
		`select(.a|=1)`:                 "",
		`select((.a=1)|.b)`:             "",
		`if .a==1 then .b=2 else . end`: "",
		`select(.a|test("===|&&"))`:     "",
		`type`:                          "",
	} {
		_, err := CompileJQ("SELECT", src)
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
	if _, err := CompileJQ("EVENT", "type"); err == nil || err.Error() != "is type, a function of jq's, and not a field; write .type" {
		t.Error(err)
	}
	if _, err := CompileJQ("EVENT", ".type|length"); err != nil {
		t.Error(err)
	}
}
