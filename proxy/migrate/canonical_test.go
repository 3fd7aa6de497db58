package migrate

import "testing"

// TestCanonical checks which texts are the same to a client: the same JSON. What is no JSON is like itself alone.
func TestCanonical(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"white space":                    {`{"a": [1, 2]}`, `{"a":[1,2]}`, true},
		"the order of names":             {`{"b":1,"a":2}`, `{"a":2,"b":1}`, true},
		"the order of a list":            {`[1,2]`, `[2,1]`, false},
		"how a number is spelled":        {`1.0`, `1`, false},
		"a long number":                  {`12345678901234567890`, `12345678901234567891`, false},
		"how a string is escaped":        {`"\u0061\/b"`, `"a/b"`, true},
		"a string that has lost its end": {`"abc"`, `"abc`, false},
		"a string that holds a quote":    {`"a\"b"`, `"a"b`, false},
		"a string and its text":          {`"abc"`, `abc`, false},
		"a string and a number":          {`"1"`, `1`, false},
		"a string that holds JSON":       {`"{\"a\":1}"`, `{"a":1}`, false},
		"text":                           {`a  b`, `a b`, false},
		"nothing":                        {``, `null`, false},
		"nothing and an empty string":    {``, `""`, false},
		"two values":                     {`1 2`, `1  2`, false},
	} {
		one, two := string(Canonical([]byte(c.a))), string(Canonical([]byte(c.b)))
		if (one == two) != c.same {
			t.Errorf("%s: %s is %s, %s is %s", name, c.a, one, c.b, two)
		}
		if again := string(Canonical([]byte(one))); again != one {
			t.Errorf("%s: %s is not canonical, but %s", name, one, again)
		}
	}
}

func TestFirstDifference(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"a":1,"b":2}`, `{"a":1,"b":3}`, `.b: 2, on the stream 3`},
		{`{"a":[1,{"c":"x"}]}`, `{"a":[1,{"c":"y"}]}`, `.a[1].c: "x", on the stream "y"`},
		{`{"a":1}`, `{"a":1,"b":null}`, `.b: not there, on the stream null`},
		{`[1,2]`, `[1]`, `[1]: 2, on the stream not there`},
		{`[1]`, `{"a":1}`, `.: [1], on the stream {"a":1}`},
		{`"1"`, `1`, `.: "1", on the stream 1`},
		{`1.0`, `1`, `.: 1.0, on the stream 1`},
		{`{"a":1,"b":2}`, `{"b":2, "a":1}`, `in the order of names or in white space only`},
		{`"abc"`, `"abc`, `in length: 5 bytes, on the stream 4`},
		{`{"a":1}`, `{"a":2`, `from byte 5 on`},
		{`abc`, `abd`, `from byte 2 on`},
	} {
		if got := FirstDifference([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("%s and %s: %s, want %s", c.a, c.b, got, c.want)
		}
	}
}
