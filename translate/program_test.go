package translate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"sidestream/translate/jq"
)

// compiled compiles src, or nothing of "".
func compiled(t testing.TB, setting, src string) *Code {
	t.Helper()
	if src == "" {
		return nil
	}
	c, err := CompileJQ(setting, src)
	if err != nil {
		t.Fatalf("%s %q: %v", setting, src, err)
	}
	return c
}

// program is written as "SELECT=…", "DATA=…" and so on.
func program(t testing.TB, settings ...string) *Program {
	t.Helper()
	p := new(Program)
	for _, s := range settings {
		name, src, _ := strings.Cut(s, "=")
		code := compiled(t, name, src)
		switch name {
		case "SELECT":
			p.Select = code
		case "EVENT":
			p.Event = code
		case "DATA":
			p.Data = code
		case "ID":
			p.ID = code
		case "DONE":
			p.Done = code
		case "KEY":
			p.Key = code
		case "strict":
			p.Strict = true
		default:
			t.Fatalf("no setting %q", name)
		}
	}
	return p
}

// said writes messages as name#id=data, one after the other.
func said(ms []Message) string {
	var b strings.Builder
	for i, m := range ms {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(m.Event + "#" + m.ID + "=" + string(m.Data))
	}
	return b.String()
}

func TestApply(t *testing.T) {
	const big = "9007199254740993"
	for name, test := range map[string]struct {
		program []string
		in      Message
		want    string
		done    bool
	}{
		"no program":                {nil, Message{Event: "e", ID: "i", Data: []byte(` {"b":1, "a" : 2} `)}, `e#i= {"b":1, "a" : 2} `, false},
		"no program, no JSON":       {nil, Message{Data: []byte("\xff")}, "#=\xff", false},
		"select one":                {[]string{"SELECT=.a"}, Message{Data: []byte(`{"a":{"c":1,"b":2}}`)}, `#={"c":1,"b":2}`, false},
		"select none":               {[]string{"SELECT=empty"}, Message{Data: []byte(`1`)}, ``, false},
		"filter":                    {[]string{`SELECT=select(.t=="x")`}, Message{Data: []byte(`{"t":"y"}`)}, ``, false},
		"split keeps order":         {[]string{"SELECT=.[]"}, Message{Data: []byte(`[3,"a b",null,{"k":[1, 2]}]`)}, `#=3 | #=a b | #=null | #={"k":[1, 2]}`, false},
		"items keep name and id":    {[]string{"SELECT=.[]"}, Message{Event: "e", ID: "i", Data: []byte(`[1,2]`)}, `e#i=1 | e#i=2`, false},
		"kept: the whole":           {[]string{"SELECT=select(.b)"}, Message{Data: []byte(" {\"b\": 1,\"a\":\"\\u00e9\"}\n")}, "#={\"b\": 1,\"a\":\"\\u00e9\"}", false},
		"kept: parts":               {[]string{"SELECT=.a[],.b"}, Message{Data: []byte(`{"a":[{"z":1,"y":"\\\""},[ 2,1 ],{}, []],"b": {"\u0062":[{"q":{},"p":1}]}}`)}, `#={"z":1,"y":"\\\""} | #=[ 2,1 ] | #={} | #=[] | #={"\u0062":[{"q":{},"p":1}]}`, false},
		"kept: escaped names":       {[]string{`SELECT=.["a\"]\\"].b`}, Message{Data: []byte(`{"\u0061\"]\\":{"b":{"d":1,"c":2}}}`)}, `#={"d":1,"c":2}`, false},
		"kept: the last of a name":  {[]string{"SELECT=.a"}, Message{Data: []byte(`{"a":{"y":1,"x":[1,2,3]},"a":{"y":{"d":1,"c":2},"x":[3]},"b":1}`)}, `#={"y":{"d":1,"c":2},"x":[3]}`, false},
		"kept: with name and id":    {[]string{"SELECT=.[]", "EVENT=.t", "ID=.i"}, Message{Data: []byte(`[{"t":"x","i": 1}]`)}, `x#1={"t":"x","i": 1}`, false},
		"kept: without SELECT":      {[]string{"EVENT=.t"}, Message{Data: []byte(`{"t":"x","i": 1}`)}, `x#={"t":"x","i": 1}`, false},
		"made: changed":             {[]string{"SELECT=.t=2"}, Message{Data: []byte(`{"t":1, "a":1}`)}, `#={"a":1,"t":2}`, false},
		"made: a part of a list":    {[]string{"SELECT=.[:2],.[1:]"}, Message{Data: []byte(`[ 1,2,3 ]`)}, `#=[1,2] | #=[2,3]`, false},
		"made: by DATA":             {[]string{"DATA=."}, Message{Data: []byte(`{"b":1, "a":1}`)}, `#={"a":1,"b":1}`, false},
		"made: and taken":           {[]string{"SELECT={b,a:1},."}, Message{Data: []byte(`{"b":1, "a":2}`)}, `#={"a":1,"b":1} | #={"b":1, "a":2}`, false},
		"event":                     {[]string{"EVENT=.t"}, Message{Event: "e", Data: []byte(`{"t":"x"}`)}, `x#={"t":"x"}`, false},
		"event null is none":        {[]string{"EVENT=.t"}, Message{Event: "e", Data: []byte(`{}`)}, `#={}`, false},
		"event nothing is none":     {[]string{"EVENT=empty"}, Message{Event: "e", Data: []byte(`{}`)}, `#={}`, false},
		"event of a number":         {[]string{"EVENT=.t"}, Message{Data: []byte(`{"t":1.50}`)}, `1.50#={"t":1.50}`, false},
		"event takes the first":     {[]string{`EVENT="a","b"`}, Message{Data: []byte(`1`)}, `a#=1`, false},
		"data":                      {[]string{"DATA=.a"}, Message{Event: "e", Data: []byte(`{"a":"x\ny"}`)}, "e#=x\ny", false},
		"data nothing drops":        {[]string{"DATA=empty"}, Message{Data: []byte(`{}`)}, ``, false},
		"data null is written":      {[]string{"DATA=.x"}, Message{Data: []byte(`{}`)}, `#=null`, false},
		"data empty string":         {[]string{`DATA=""`}, Message{Data: []byte(`{}`)}, `#=`, false},
		"id":                        {[]string{"ID=.n"}, Message{Data: []byte(`{"n":"a-1"}`)}, `#a-1={"n":"a-1"}`, false},
		"id of a bool":              {[]string{"ID=.n"}, Message{Data: []byte(`{"n":true}`)}, `#true={"n":true}`, false},
		"all of an item":            {[]string{"SELECT=.[]", "EVENT=.e", "DATA=.d", "ID=.i"}, Message{Data: []byte(`[{"e":"a","d":1,"i":7},{"e":"b","d":"s","i":"8"}]`)}, `a#7=1 | b#8=s`, false},
		"done alone keeps bytes":    {[]string{"DONE=.x"}, Message{Event: "e", ID: "i", Data: []byte(` {"x": true}`)}, `e#i= {"x": true}`, true},
		"done alone, not yet":       {[]string{"DONE=.x"}, Message{Data: []byte(`{"x": false}`)}, `#={"x": false}`, false},
		"done null is false":        {[]string{"DONE=.x"}, Message{Data: []byte(`{}`)}, `#={}`, false},
		"done nothing is false":     {[]string{"DONE=empty"}, Message{Data: []byte(`{}`)}, `#={}`, false},
		"done sees the item":        {[]string{"SELECT=.[]", "DONE=.==2"}, Message{Data: []byte(`[1,2]`)}, `#=1 | #=2`, true},
		"nothing behind done":       {[]string{"SELECT=.[]", "DONE=.==2"}, Message{Data: []byte(`[1,2,3,4]`)}, `#=1 | #=2`, true},
		"done without data":         {[]string{"SELECT=.[]", "DATA=select(.!=2)", "DONE=.==2"}, Message{Data: []byte(`[1,2,3]`)}, `#=1`, true},
		"done of a dropped item":    {[]string{"SELECT=.[]|select(.!=2)", "DONE=.==2"}, Message{Data: []byte(`[1,2,3]`)}, `#=1 | #=3`, false},
		"not JSON is a string":      {[]string{"DATA={t:.}"}, Message{Data: []byte(`tick 7`)}, `#={"t":"tick 7"}`, false},
		"two documents are none":    {[]string{"DATA=type"}, Message{Data: []byte("1 2")}, `#=string`, false},
		"trailing junk is text":     {[]string{"DATA=type"}, Message{Data: []byte(`{}x`)}, `#=string`, false},
		"empty is a string":         {[]string{"DATA=[.]"}, Message{}, `#=[""]`, false},
		"invalid UTF-8 is replaced": {[]string{"DATA=."}, Message{Data: []byte("\"a\xff\"")}, "#=\"a\uFFFD\"", false},
		"text stays text":           {[]string{"DATA=type"}, Message{Data: []byte(`1234`), Text: true}, `#=string`, false},
		"white space around":        {[]string{"DATA=."}, Message{Data: []byte(" \n{\"a\":1}\r\n")}, `#={"a":1}`, false},
		"a gap goes through":        {[]string{"SELECT=error"}, Message{Gap: GapUpstream}, `#=`, false},

		"big raw":          {nil, Message{Data: []byte(big)}, "#=" + big, false},
		"big nested":       {[]string{"SELECT=."}, Message{Data: []byte(`{"a":[{"n":` + big + `}]}`)}, `#={"a":[{"n":` + big + `}]}`, false},
		"big by data":      {[]string{"DATA=.a[0].n"}, Message{Data: []byte(`{"a":[{"n":` + big + `}]}`)}, "#=" + big, false},
		"big as id":        {[]string{"ID=.n"}, Message{Data: []byte(`{"n":` + big + `}`)}, "#" + big + `={"n":` + big + `}`, false},
		"big as event":     {[]string{"EVENT=.n", "DATA=1"}, Message{Data: []byte(`{"n":` + big + `}`)}, big + `#=1`, false},
		"big interpolated": {[]string{`DATA="n=\(.n)"`}, Message{Data: []byte(`{"n":` + big + `}`)}, "#=n=" + big, false},
		"big compared":     {[]string{`SELECT=select(.n==` + big + `)|.n`}, Message{Data: []byte(`{"n":` + big + `}`)}, "#=" + big, false},
		"decimals stay":    {[]string{"SELECT=.[]"}, Message{Data: []byte(`[0.1,1.10,12345678901234567890.123]`)}, "#=0.1 | #=1.10 | #=12345678901234567890.123", false},

		"made beside what is no JSON": {[]string{"SELECT=.,{a:1},[[2]]"}, Message{Data: []byte(`{"b":`)}, `#={"b": | #={"a":1} | #=[[2]]`, false},
		"made beside nothing":         {[]string{"SELECT=.,{a:1}"}, Message{}, `#= | #={"a":1}`, false},
		"made beside text":            {[]string{"SELECT=.,{a:1}"}, Message{Data: []byte(`[1`), Text: true}, `#=[1 | #={"a":1}`, false},
		"so do those in others":       {[]string{"SELECT=.a,.b[]"}, Message{Data: []byte(`{"a":{ },"b":[{  },[ ]]}`)}, `#={ } | #={  } | #=[]`, false},
		"empty objects keep bytes":    {[]string{"SELECT=select(.a==null)"}, Message{Data: []byte(` { } `)}, `#={ }`, false},

		"strict":                    {[]string{"strict", "DATA=.a"}, Message{Data: []byte(" {\"a\":1}\n")}, `#=1`, false},
		"strict alone, no programs": {[]string{"strict"}, Message{Data: []byte("\n {\"b\": 1, \"a\":2}\r\n")}, `#={"b": 1, "a":2}`, false},
		"strict done keeps bytes":   {[]string{"strict", "DONE=.b"}, Message{Data: []byte("{\"b\": 1}\n")}, `#={"b": 1}`, true},
	} {
		given := string(test.in.Data)
		out, done, err := program(t, test.program...).Apply(context.Background(), test.in)
		if err != nil || said(out) != test.want || done != test.done {
			t.Errorf("%s: %q, done %v, %v; want %q, %v", name, said(out), done, err, test.want, test.done)
		}
		if string(test.in.Data) != given {
			t.Errorf("%s: the data was written to", name)
		}
	}
}

// What a program takes out has one content, in whatever order the upstream writes names, so that it is no news.
func TestContent(t *testing.T) {
	p := program(t, "SELECT=.[]")
	var contents []string
	for _, data := range []string{`[{"b":1,"a":[ ]}]`, `[ {"a": [],"b":1}]`} {
		out, _, err := p.Apply(context.Background(), Message{Data: []byte(data)})
		if err != nil || len(out) != 1 {
			t.Fatal(out, err)
		}
		contents = append(contents, string(out[0].Content()))
	}
	if contents[0] != `{"a":[],"b":1}` || contents[1] != contents[0] {
		t.Error(contents)
	}
	if m := (Message{Data: []byte(" x")}); string(m.Content()) != " x" {
		t.Errorf("%q", m.Content())
	}
}

// A document's parts are found in whatever it looks like.
func FuzzOrigin(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"\\"}],"a":{"\u0061":[[]]},"c":[{}, [1 , 2]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := ParseJSON(data)
		if err != nil {
			return
		}
		o := &origin{data: data, value: []any{value}} // not the whole, so that everything is looked for
		o.spans = map[place][2]int{}
		o.scan(0, value)
		var visit func(v any)
		visit = func(v any) {
			if raw := o.bytes(v); raw != nil {
				again, err := ParseJSON(raw)
				if err != nil || !reflect.DeepEqual(again, v) {
					t.Fatalf("%s of %s", raw, data)
				}
			} else if _, ok := placeOf(v); ok {
				t.Fatalf("%v is not found in %s", v, data)
			}
			switch v := v.(type) {
			case []any:
				for _, e := range v {
					visit(e)
				}
			case map[string]any:
				for _, e := range v {
					visit(e)
				}
			}
		}
		visit(value)
	})
}

func TestApplyKnown(t *testing.T) {
	m := Message{Event: "e", ID: "i", Topic: "t", Data: []byte("1"), Status: 200,
		Header: http.Header{"X-Poll-Interval": {"60"}, "Link": {"<a>", "<b>"}}}
	for src, want := range map[string]string{
		`[$event,$id,$topic,$status]`:            `["e","i","t",200]`,
		`[event,id,topic,status]`:                `["e","i","t",200]`,
		`$headers["x-poll-interval"]`:            `60`,
		`headers["x-poll-interval"]`:             `60`,
		`$headers.link`:                          `<a>, <b>`,
		`$headers["X-Poll-Interval"]`:            `null`,
		`[.] | map(event) | .[0]`:                `e`,
		`def id: "own"; id`:                      `own`,
		`. as $event | $event`:                   `1`,
		`$headers | keys | join(" ")`:            `link x-poll-interval`,
		`if $status == 200 then "ok" else 1 end`: `ok`,
	} {
		out, _, err := program(t, "DATA="+src).Apply(context.Background(), m)
		if err != nil || len(out) != 1 || string(out[0].Data) != want || out[0].Event != "e" || out[0].ID != "i" || out[0].Topic != "t" {
			t.Errorf("%s: %q, %v; want %q", src, said(out), err, want)
		}
	}
	out, _, err := program(t, "DATA=[$event,$id,$topic,$status,$headers]").Apply(context.Background(), Message{Data: []byte("1")})
	if err != nil || said(out) != "#=[null,null,null,null,null]" {
		t.Errorf("without anything known: %q, %v", said(out), err)
	}
}

func TestApplyStrict(t *testing.T) {
	for _, data := range []string{"", " ", "<html>", "{", `{"a":1}x`, `{"a":1}{"a":2}`, `{"a":1},`, "tick", "NaN", "\"a\xff\"", "\xff", "\uFEFF{}", "'a'"} {
		for _, p := range []*Program{program(t, "strict"), program(t, "strict", "DATA=1")} {
			out, done, err := p.Apply(context.Background(), Message{Data: []byte(data)})
			if !errors.Is(err, ErrPayload) || out != nil || done {
				t.Errorf("%q: %q, %v, %v", data, said(out), done, err)
			}
			if len(data) > 2 && strings.Contains(err.Error(), data) {
				t.Errorf("%q is in its error: %v", data, err)
			}
		}
	}
}

func TestApplyFails(t *testing.T) {
	for _, test := range []struct{ setting, src string }{
		{"SELECT", ".[].x.y.z|error"}, {"EVENT", ".a"}, {"EVENT", "[1]"}, {"DATA", "tonumber"}, {"ID", "{}"}, {"DONE", ".x"},
	} {
		for _, split := range []bool{false, true} {
			settings := []string{test.setting + "=" + test.src}
			if split && test.setting != "SELECT" {
				settings = append(settings, `SELECT=.,.`)
			}
			out, done, err := program(t, settings...).Apply(context.Background(), Message{Data: []byte(`"secret"`)})
			var failed *ProgramError
			if !errors.As(err, &failed) || failed.Setting != test.setting || out != nil || done {
				t.Errorf("%v: %q, %v, %v", settings, said(out), done, err)
			} else if !strings.HasPrefix(err.Error(), test.setting+": ") || strings.Count(err.Error(), ": ") > 1+strings.Count(failed.Err.Error(), ": ") {
				t.Errorf("%v: %v", settings, err)
			}
		}
	}
}

// A value that a program's error quotes may be a token: none of it belongs in logs.
func TestProgramErrorHoldsNoValue(t *testing.T) {
	for _, src := range []string{
		`error`, `error({a:.})`, `error("x" + .)`, `halt_error`, `tonumber`, `fromjson`, `. + 1`, `1 - .`, `-.`, `.[]`, `.[0]`, `.a`,
		`test(1)`, `"a" | test("(" + $v)`, `{(1|tostring+.):1}[.][0]`, `{} | .[["secret"]]`, `[.] | @csv, ([{a:.[0]}] | @csv)`, `[.] | .["secret"]`,
		`ltrimstr(1) | explode | implode | tojson | fromjson`, `try error(.) catch error(.)`, `strptime("%Y")`, `[.] | has("x")`, `. % 2`, `. / 1`,
		`"x" * 99999999999`, `[1] | .[9999999999] = 1`, `4172 | .[]`, `[-4172] | .[.[0]] = 1`, `4172 | fromjson`, `4172 | test("a")`, `4172 | tojson | .x`,
		`{"k": 4172} | tonumber`, `limit(-4172; 1)`, `[.] | flatten(-4172)`, `splits(1)`, `sub("a"; 1)`, `@base64d`, `4172|gmtime|mktime|todate|fromdate|.[]`,
	} {
		src = strings.ReplaceAll(src, "$v", ".")
		_, _, err := program(t, "DATA="+src).Apply(context.Background(), Message{Data: []byte(`"secret"`)})
		if err == nil {
			continue // not every version of jq fails for each of them
		}
		if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, "4172") || text == "DATA: " {
			t.Errorf("%s: %v (of %v)", src, text, errors.Unwrap(err))
		}
	}
}

func TestProgramIsCut(t *testing.T) {
	for _, p := range []*Program{program(t, "SELECT=repeat(empty)"), program(t, "EVENT=last(repeat(1))"), program(t, "DATA=def f: f; f"),
		program(t, "SELECT=.,.", "DONE=until(false; .)"), program(t, "ID=[range(infinite)]")} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		out, done, err := p.Apply(ctx, Message{Data: []byte("1")})
		cancel()
		var failed *ProgramError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &failed) || out != nil || done {
			t.Errorf("%q, %v, %v", said(out), done, err)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	long, err := json.Marshal(strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		src, data string
	}{"items": {"range(infinite)", "1"}, "bytes": {"repeat(.)", string(long)}} {
		out, _, err := program(t, "SELECT="+test.src).Apply(context.Background(), Message{Data: []byte(test.data)})
		if !errors.Is(err, errTooMuch) || out != nil {
			t.Errorf("SELECT, %s: %d items, %v", name, len(out), err)
		}
		replies, err := compiled(t, "REPLY", test.src).Outputs(context.Background(), Message{Data: []byte(test.data)})
		if !errors.Is(err, errTooMuch) || len(replies) > maxItems+1 {
			t.Errorf("REPLY, %s: %d outputs, %v", name, len(replies), err)
		}
	}
}

// What cannot be written is the failure of the program that has made it.
func TestUnwrittenNamesItsProgram(t *testing.T) {
	deep := Message{Data: []byte(strings.Repeat("[", 9999) + strings.Repeat("]", 9999))}
	for _, test := range [][]string{{"SELECT={a:{b:{c:.}}}"}, {"SELECT=[[[.]]]"}, {"DATA={a:{b:{c:.}}}"}, {"DATA=[[[.]]]"}, {"SELECT=.", "DATA=[[[.]]]"}, {"SELECT=.[]?,.", "DATA={a:{b:{c:.}}}"}} {
		_, _, err := program(t, test...).Apply(context.Background(), deep)
		var failed *ProgramError
		want, _, _ := strings.Cut(test[len(test)-1], "=")
		if !errors.As(err, &failed) || failed.Setting != want || !errors.Is(err, jq.ErrDepth) {
			t.Errorf("%q: %v", test, err)
		}
	}
}

func TestCompileJQ(t *testing.T) {
	for src, want := range map[string]string{
		".a |":        "is not a jq program",
		"price":       `(a constant is written with its quotes: "price")`,
		"$nothing":    "variable not defined: $nothing",
		"nope(1)":     "function not defined: nope/1",
		`import "a"`:  "is not a jq program",
		"{{path.id}}": "is not a jq program",
	} {
		if _, err := CompileJQ("SELECT", src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", src, err, want)
		}
	}
	if c, err := CompileJQ("DATA", "env, $ENV"); err == nil {
		t.Setenv("SIDESTREAM_TEST", "secret")
		out, err := c.Outputs(context.Background(), Message{Data: []byte("null")})
		for _, o := range out {
			if string(o) != "{}" {
				t.Errorf("a program reads the environment: %s, %v", o, err)
			}
		}
	}
}

func BenchmarkApply(b *testing.B) {
	p := program(b, `SELECT=select(.type=="price")`, "EVENT=.symbol", "DATA={price,volume}", "ID=.seq")
	m := Message{Data: []byte(`{"type":"price","symbol":"ACME","price":101.25,"volume":12000,"seq":9007199254740993}`)}
	b.ReportAllocs()
	for b.Loop() {
		if out, _, err := p.Apply(context.Background(), m); err != nil || len(out) != 1 {
			b.Fatal(out, err)
		}
	}
}

func BenchmarkApplyPlain(b *testing.B) {
	p, m := new(Program), Message{Data: []byte(`{"type":"price"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if out, _, err := p.Apply(context.Background(), m); err != nil || len(out) != 1 {
			b.Fatal(out, err)
		}
	}
}

// TestBriefly checks that what would take time to speak of is refused where that is to be, and done where there is time, and that what takes none is done alike.
func TestBriefly(t *testing.T) {
	doubled := "DATA={a:.,b:.}" + strings.Repeat("|{a:.,b:.}", 17) // a few steps, and 200,000 parts that are written
	for _, c := range []struct {
		settings []string
		data     string
		long     bool
		brief    bool
	}{
		{[]string{"SELECT=select(.a)"}, `{"a":1}`, false, true},
		{[]string{"SELECT=select(.a)", "ID=.a", "DATA={a}"}, `{"a":1}`, false, true},
		{[]string{"DATA={a}"}, `{"a":1,"b":"` + strings.Repeat("x", 1<<10) + `"}`, false, true},
		{[]string{"DATA={a}"}, `{"a":1,"b":"` + strings.Repeat("x", 3500) + `"}`, true, true},
		{[]string{"DATA=[.]"}, strings.Repeat("[", 1750) + strings.Repeat("]", 1750), true, false},
		{[]string{"DATA=.[0]"}, "[" + strings.Repeat("[],", 1200) + "1]", true, true},
		{[]string{"SELECT=.[]"}, `[1,2]`, false, true},
		{[]string{"SELECT=.[]"}, `{"a":1}`, true, true}, // which gojq does
		{[]string{"SELECT=.[]"}, "[" + strings.Repeat("1,", 400) + "1]", true, true},
		{[]string{"SELECT=.[]", "EVENT=.a", "ID=.b", "DATA={a}"}, "[" + strings.Repeat(`{"a":"1","b":"2"},`, 60) + `{"a":"1"}]`, true, true},
		{[]string{doubled}, `"x"`, true, true},
		{[]string{"DATA={a:.,b:.}|{a:.,b:.}"}, `"x"`, false, true},
		{[]string{"DATA=.a|tostring"}, `{"a":1}`, true, false},
		{[]string{"SELECT=.a", "DATA=.b|tostring"}, `{"a":{"b":1}}`, true, false},
		{nil, strings.Repeat("x", 8<<10), false, true},
	} {
		p := program(t, c.settings...)
		if p.Brief() != c.brief {
			t.Errorf("%q: brief %v", c.settings, p.Brief())
		}
		m := Message{Data: []byte(c.data)}
		want, _, err := p.Apply(t.Context(), m)
		if err != nil || len(want) == 0 {
			t.Fatalf("%.60q of %.60q: %v, %v", c.settings, c.data, want, err)
		}
		brief := Briefly(t.Context())
		brief.Renew()
		got, _, err := p.Apply(brief, m)
		switch {
		case c.long != errors.Is(err, ErrLong):
			t.Errorf("%.60q of %.60q: %v", c.settings, c.data, err)
		case !c.long && (fmt.Sprint(got) != fmt.Sprint(want) || err != nil):
			t.Errorf("%q: %v, want %v", c.settings, got, want)
		}
	}
}

// TestBriefIsUsedUp checks that what is done one after the other has the time of one, until it is renewed.
func TestBriefIsUsedUp(t *testing.T) {
	p, m := program(t, "SELECT=select(.a)", "DATA={a}"), Message{Data: []byte(`{"a":1,"text":"` + strings.Repeat("x", 200) + `"}`)}
	brief := Briefly(t.Context())
	for range 3 {
		brief.Renew()
		n := 0
		for ; n < 100; n++ {
			if _, _, err := p.Apply(brief, m); errors.Is(err, ErrLong) {
				break
			}
		}
		if n < 5 || n > 20 {
			t.Errorf("%d messages are brief", n)
		}
	}
	if none := BriefOf(t.Context()); none != nil || !none.Message() || !none.Bytes(1<<30) || !none.Writes("x") {
		t.Error("who is not to be brief has no time")
	}
}
