package jq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

func parsed(t testing.TB, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func query(t testing.TB, src string) *gojq.Query {
	t.Helper()
	q, err := gojq.Parse(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return q
}

func program(t testing.TB, src string) *Program {
	t.Helper()
	p, err := Compile(query(t, src), nil)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return p
}

// all is what a program yields, and the error at its end, written down.
func all(ctx context.Context, p *Program, v any) string {
	var b bytes.Buffer
	err := p.Run(ctx, v, nil, func(v any) error {
		text, err := Marshal(v)
		b.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		fmt.Fprint(&b, "error: ", err)
	}
	return b.String()
}

// plainly is what gojq yields by itself.
func plainly(t testing.TB, src string, v any) string {
	t.Helper()
	code, err := gojq.Compile(query(t, src))
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	var b bytes.Buffer
	iter := code.Run(v)
	for {
		v, ok := iter.Next()
		if !ok {
			return b.String()
		}
		if err, failed := v.(error); failed {
			fmt.Fprint(&b, "error: ", err)
			return b.String()
		}
		text, _ := gojq.Marshal(v)
		b.Write(append(text, '\n'))
	}
}

// values are what the functions are tried on.
const values = `[null,true,false,0,-1,1,2.5,1.0,10000000000000000001,9007199254740993,"","a","abc","a,b, c","aXbxA","é€😀é","12","[1]",
	[],[1],[2,1,1.0],[[1,2],[3]],["a","b","a"],[1,"a",null,{"a":1}],[3,[1,[2]],{"b":[1]}],{},{"a":1},{"b":[1,2],"a":{"c":null}},[{"a":2,"k":"x"},{"a":1,"k":"y"},{"a":2,"k":"z"}],
	{"key":"k","value":1},[{"key":"k","value":1}],[["a"],["b",0]],[1700000000,"x"],[97,98,8364],{"a":{"b":2},"c":[1,{"d":3}]},"2015-03-05T23:51:47Z","PGI+","%C3%A9","<&'\">"]`

// What is bounded does what gojq does.
func TestLikeGojq(t *testing.T) {
	singles := strings.Fields(`length utf8bytelength not keys values add any all floor sqrt abs tostring tonumber type reverse min max sort unique
		flatten to_entries from_entries explode implode ascii_downcase ascii_upcase tojson fromjson trim ltrim rtrim first last transpose
		@text @json @html @uri @urid @csv @tsv @sh @base64 @base64d paths leaf tostream recurse isnan toboolean
		todate fromdate mktime gmtime combinations infinite getpath(["a","c"]) getpath([0,1]) getpath([[1]]) .[0] .[-1] .[1:] .[:1] .["a"] .[] .[]? .a .[[1]] .[[1,2]]
		error error("x") halt_error map(.) map(.a?) map_values(.) del(.[0]) del(.a) del(.[]) delpaths([[0],["a"]]) delpaths([[0],[1],["b",0]]) to_entries
		with_entries(.) walk(.) sort_by(.a) sort_by(.k) group_by(.a) unique_by(.a) min_by(.a) max_by(.a) has("a") has(0) contains("a") contains(["a"]) contains({a:1}) contains([])
		inside("abcd") inside([1,2,3,"a","b"]) index("a") rindex("a") indices("a") indices(1) indices([1]) indices("é") index("") split("") split(",") split(",\u0020*";"g") join(",") join("")
		ltrimstr("a") rtrimstr("c") startswith("a") endswith("c") test("a") test("A";"i") match("a") match("a";"g") match("";"g") match("(?<n>b)|(x)";"gi") match("^";"g") match("\\b.";"g") match("a*";"g") match("[^a]*";"g") match("é";"g")
		capture("(?<x>.)(?<y>.)?") scan("[a-z]") scan("([a-z])(,)?") sub("a";"z") gsub("a";"z") gsub("";"-") gsub("^";">") gsub("\\b";"|") gsub("(?<l>[a-z])";"\(.l)\(.l)") gsub("$";"!") splits(",") ascii(0)
		.+. .-. .*. ./. .%. .==. .<. .>=. .+1 1+. .-1 .*2 2*. .*0 .*-1 ./2 .%2 .+"a" .+[1] .+{a:2} .*{a:{b:1}} .-[1] .-["a",null] ."a"? .//"z" .<[1] .>"a" .!=null
		.a=1 .[0]=1 .[1]+=1 .[]+=1 .a|=.+1 .[]|=empty .[1:]=["x"] .[1:]|=map(.) .b[0]=9 setpath(["a","b"];1) setpath([2];1) setpath([];1) setpath([{"start":0,"end":1}];[7,8]) to_entries[] pick(.a) pick(.[1])
		path(..) path(.a) [paths] [limit(3;.[]?)] first(.[]?) [range(0;5;2)] until(true;.) reduce(.[]?)as$x(0;.+1) foreach(.[]?)as$x(0;.+1) bsearch(1) bsearch("a")
		splits("a";"g") @base64"x\(.)" @json"x\(.)" "x\(.)y" input_line_number ltrimstr(1) tojson[0:3]? (.[0],.[1])?=5 limit(0;1) isempty(.[]?) IN(1,"a") INDEX(.a?) any(.==1) all(.[]?;.) env $ENV
		add(.[]?) tostring|length strftime("%Y") strptime("%Y") localtime now|type jn(2;1) pow(2;3) log10 significand ldexp(1;2) trimstr("a") abs toarray have_literal_numbers getpath(["a","b","c"])?
		[.[]?|tostring] sort|group_by(.) unique_by(type) [splits("")] ascii(.) @uri"a=\(.)" test("a","b") [match("a","b";"g").offset] min_by(type) skip(1;.[]?) nth(1) nth(1;.[]?) last(.[]?) tostream|tojson
		fromstream(tostream) truncate_stream(1;tostream) [.[]?]==. .[2:4] .[1.2:3.5] .[null] .[{"start":1,"end":null}] del(.[1,0]) del(.[0:2]) del(..) del(.a,.b) to_entries|from_entries halt`)
	tried := 0
	for _, src := range singles {
		q, err := gojq.Parse(src)
		if err != nil {
			t.Logf("%s: %v", src, err)
			continue
		}
		p, err := Compile(q, nil)
		if err != nil {
			continue // gojq has no such function
		}
		for _, v := range parsed(t, values).([]any) {
			tried++
			want, got := plainly(t, src, v), all(context.Background(), p, v)
			if want != got {
				text, _ := gojq.Marshal(v)
				t.Errorf("%s of %s: %s, want %s", src, text, got, want)
			}
		}
	}
	if tried < 8000 {
		t.Errorf("only %d were tried", tried)
	}
}

// Each of these took minutes or gigabytes, or both.
var endless = []string{
	`(.a-.b)|length`, `.t|gsub("a";"c")|length`, `[.t|match("a";"g")]|length`, `.a as $a|.a|indices($a[1:3])|length`, `.t as $x|[range(1e5)|$x]|add|length`,
	`.t*.n|length`, `.t|[splits("a")]|length`, `[.a|combinations]|length`, `[repeat(1)]`, `[range(1e9)]|length`, `def f: [f]; f`, `def f: f+1; f`,
	`reduce range(1e9) as $i (1;[.,.])`, `reduce range(40) as $i (1;[.,.])|tojson|length`, `reduce range(40) as $i (1;[.,.])|flatten|length`, `reduce range(40) as $i (1;[.,.])|.==[.]`,
	`reduce range(40) as $i (1;[.,.])`, `(reduce range(60) as $i (1;[.,.])) as $x|$x==$x`, `reduce range(1e7) as $i (1;[.])|tojson|length`, `reduce range(3e6) as $i (1;[.])|[..]|length`,
	`.a|sort|length`, `[.a[]|{a:.}]|sort_by(.a)|length`, `.a|group_by(.)|length`, `.a as $a|[$a[]|$a]|unique|length`, `.a|map([.])|transpose|length`, `[.a]+[range(1e5)|[]]|transpose|length`,
	`.[1e8]=1`, `null|.[1e8]=1|length`, `null|setpath([5e8];1)|length`, `delpaths([range(1e5)|["a",{start:0,end:500000}]])|length`, `.a|delpaths([range(1e5)|[99999-.]])|length`,
	`.t as $x|.a|map($x)|join(",")|length`, `.big+1`, `.big*.big|tostring|length`, `reduce range(100) as $i (3;.*.)|tostring|length`, `[.big,.big]|sort`, `[.big,.big]|add`, `[.big]|implode`, `.big<1`,
	`.t|test("(a*)*b")`, `.t|test("(a|aa|aaa){1,500}b")`, `.t|[match("a.*b|a";"g")]|length`, `.t|test("\\b(a?){500}(a){500}\\b")`, `. as $d|.t|.[:16000]|test(.)`, `"(((a{30}){30}){30}){30}" as $r|.t|test($r)`,
	`[.a[]|tostring|test("x"+.)]|length`, `jn(9e17;9e18)`, `yn(9e17;9e18)`, `jn(1e9;2e9)`, `.t|explode|implode|length`, `[.t|explode|.[]|[.]]|length`, `.t|@html|@html|@html|@html|@html|length`, `reduce range(30) as $i (.t;@uri)|length`,
	`[paths]|length`, `[tostream]|length`, `[.deep|paths]|length`, `[.deep|paths|tojson]|length`, `.deep|flatten`, `.deep|[..]|length`, `.deep|walk(.)|length`, `.deep==.deep`, `.deep|tojson|length`,
	`def f: .a as $a|$a[]|{a:$a}|f; f`, `def f: . as $all|.[]|$all|f; .a|f`, `[range(1e6)]|. as $x|map($x[1:])|length`, `.a|contains(.)`, `.a as $a|[$a,$a]|contains([$a])`, `.a|inside(.)`, `[.a[]|tojson]|contains(["x"])`,
	`.t|ascii_downcase|ascii_upcase|split("")|length`, `.t|split("a")|join("bb")|split("")|length`, `.t|indices("aaaaaaaaaaaaaaaaaaaaaa")|length`, `.t as $t|.t|indices($t[:500000])|length`, `.t|fromjson`, `.a|tojson|fromjson|length`,
	`[limit(1e7;repeat("x"))]|add|length`, `reduce range(1e7) as $i ("";.+"xxxxxxxxxx")|length`, `reduce .a[] as $x ({};.[$x|tostring]=$x)|length`, `reduce .a[] as $x ([];.+[$x])|length`, `.a|to_entries|from_entries|length`,
	`.a|with_entries(.)|length`, `[.a[]|@base64|@base64d|@sh|@json]|length`, `.a|map(tostring)|sort|unique|length`, `last(range(1e12))`, `[.t|scan("a")]|length`, `.t|[capture("(?<x>a)";"g")]|length`, `.t|sub("(?<x>a)";"\(.x)\(.x)";"g")|length`,
	`error(reduce range(40) as $i (1;[.,.]))`, `try error(reduce range(40) as $i (1;[.,.])) catch 1`, `(reduce range(40) as $i (1;[.,.]))|@text "\(.)"|length`, `(reduce range(40) as $i ({};{a:.,b:.}))|del(.a.a)|1`, `(reduce range(40) as $i ({};{a:.,b:.}))|.*.|1`,
	`strftime(.t)`, `now|strftime("%1024Y"*4000)|length`, `[.a[]|strptime("%Y")?]|length`, `input`, `[getpath(["a",range(1e5)])]|length`, `path(..)`, `[.[]|..|numbers]|length`, `try repeat(error) catch 1`, `[range(1e6)|try error catch .]|length`, `label $f|repeat(1)`,
	`[range(1e6)]|map([.,.])|map({a:.})|length`, `.a|map({a:.,b:.,c:.,d:.})|map({a:.,b:.,c:.,d:.})|length`, `.a|[.[]|tostring]|join("")|length`, `.a|@csv|length`, `.a|min_by(-.)`, `.a|INDEX(.)|length`, `[.a[]|bsearch(1)?]|length`, `.a|map(bsearch(1)?)|length`, `. as $d|[range(100)|$d|tojson]|length`,
}

// document has a list of many numbers, a long text, a number of many digits, and something deep, in 1 MB.
func document(t testing.TB) any {
	var list strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&list, ",%d", (i*7919)%40009)
	}
	text := `{"a":[` + list.String()[1:] + `],"b":[` + list.String()[1:] + `],"t":"` + strings.Repeat("a", 400000) + `","n":1e9,"big":` + strings.Repeat("7", 100000) +
		`,"deep":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`
	return parsed(t, text)
}

// Bounds on what a run may cost, and on what is allowed for while the tests of other packages have the machine too.
var strict = flag.Bool("strict", false, "on a machine that does nothing else: a run has 1.5 s and 256 MiB")

// costs runs f and returns its time, and by how much it made the process grow, in MiB, which is 0 where there is no /proc to tell.
func costs(t testing.TB, f func()) (took time.Duration, grown int) {
	t.Helper()
	debug.FreeOSMemory()
	linux, before := runtime.GOOS == "linux", 0
	if linux {
		before = resident(t, "VmRSS:")
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	f()
	took = time.Since(begun)
	if linux {
		grown = resident(t, "VmHWM:") - before
	}
	return took, grown
}

func resident(t testing.TB, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), name)
	var kib int
	fmt.Sscan(rest, &kib)
	return kib >> 10
}

// bounded runs src over doc and reports what was wrong with that, "" for nothing.
func bounded(t testing.TB, src string, doc any) (wrong string) {
	t.Helper()
	q, err := gojq.Parse(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	p, err := Compile(q, nil)
	if err != nil {
		return "" // there is no such function
	}
	var ended error
	took, grown := costs(t, func() {
		limit := 100 * time.Millisecond // for the sake of who waits
		if *strict {
			limit = time.Second
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		ended = p.Run(ctx, doc, nil, func(v any) error {
			_, err := Marshal(v)
			return err
		})
	})
	most, large := 20*time.Second, 400
	if *strict {
		most, large = 1500*time.Millisecond, 256
	}
	if text := fmt.Sprint(ended); took > 200*time.Millisecond || grown > 100 {
		t.Logf("%8s %4d MiB %s: %.60s", took.Round(time.Millisecond), grown, src, text)
	}
	if took > most || grown > large {
		return fmt.Sprintf("%s took %s and %d MiB", src, took, grown)
	}
	return ""
}

func TestBounded(t *testing.T) {
	doc := document(t)
	for _, src := range endless {
		if wrong := bounded(t, src, doc); wrong != "" {
			t.Error(wrong)
		}
	}
}

func TestErrors(t *testing.T) {
	doc := document(t)
	for src, want := range map[string]error{
		`[range(1e9)|[.]]`:                ErrMemory,
		`def f: f+1; f`:                   ErrMemory,
		`.t*.n`:                           ErrMemory,
		`null|.[1e8]=1`:                   ErrMemory,
		`.big+1`:                          ErrNumber,
		`reduce range(100) as $i (3;.*.)`: ErrNumber,
		`reduce range(20000) as $i (1;[.])|tojson`:      ErrDepth,
		`reduce range(40) as $i (1;[.,.])|tojson`:       ErrMemory,
		`try (.t*.n) catch 1`:                           ErrMemory, // the run has ended
		`[limit(100;repeat({a:1}))]|length|select(.<0)`: nil,
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // memory ends it
		err := program(t, src).Run(ctx, doc, nil, func(any) error { return nil })
		cancel()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", src, err, want)
		}
	}
}

// Of runs that take long only so many go on at once; one that is started by another's output counts with it.
func TestSlots(t *testing.T) {
	long := program(t, "last(range(200000))")
	run := func(ctx context.Context, p *Program, f func(any) error) error { return p.Run(ctx, nil, nil, f) }
	nothing := func(any) error { return nil }
	for range cap(slots) - 1 {
		slots <- struct{}{}
	}
	ctx := Share(t.Context())
	outer := program(t, "last(range(200000)),1")
	if err := run(ctx, outer, func(any) error { return run(ctx, long, nothing) }); err != nil || len(slots) != cap(slots) {
		t.Errorf("inside each other: %v, %d of %d slots", err, len(slots), cap(slots))
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := run(soon, long, nothing); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a slot: %v", err)
	}
	if err := run(t.Context(), program(t, "1+1"), nothing); err != nil {
		t.Errorf("a short one needs no slot: %v", err)
	}
	ctx.Release()
	if err := run(t.Context(), long, nothing); err != nil || len(slots) != cap(slots)-1 {
		t.Errorf("afterwards: %v, %d slots are taken", err, len(slots))
	}
	for range cap(slots) - 1 {
		<-slots
	}
}

// Regular expressions that messages bring are not kept for ever.
func TestRegexpsKeptAreBounded(t *testing.T) {
	p := program(t, "test(.)")
	for i := range 1000 {
		if err := p.Run(t.Context(), strings.Repeat("a?", 100)+fmt.Sprint(i), nil, func(any) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.regexps.kept) > maxPatterns || p.regexps.size > maxKept {
		t.Errorf("%d of %d steps are kept", len(p.regexps.kept), p.regexps.size)
	}
}

// BenchmarkRatio compares with gojq itself, in turns, by the fastest of many short rounds: "ratio" is ours to gojq's.
func BenchmarkRatio(b *testing.B) {
	v := parsed(b, `{"type":"x","a":1,"b":{"c":[1,2,3]},"id":7}`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, src := range []string{`select(.type=="x")`, `{a,b}`, `.b.c[]|select(.>1)`, `[.b.c[]|tostring]|join(",")`} {
		b.Run(src, func(b *testing.B) {
			code, err := gojq.Compile(query(b, src))
			if err != nil {
				b.Fatal(err)
			}
			p := program(b, src)
			keep := func(any) error { return nil }
			best := [2]time.Duration{time.Hour, time.Hour}
			round := func(n int, f func()) {
				begun := time.Now()
				for range 200 {
					f()
				}
				best[n] = min(best[n], time.Since(begun))
			}
			for b.Loop() {
				round(0, func() {
					iter := code.RunWithContext(ctx, v)
					for v, ok := iter.Next(); ok; v, ok = iter.Next() {
						keep(v)
					}
				})
				round(1, func() { p.Run(ctx, v, nil, keep) })
			}
			b.ReportMetric(float64(best[1])/float64(best[0]), "ratio")
			b.ReportMetric(float64(best[1].Nanoseconds())/200, "ns/run")
		})
	}
}
