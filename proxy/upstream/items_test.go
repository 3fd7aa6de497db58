package upstream

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// page is a list written "a b c"; an element a#7 has an id.
func page(s string) []translate.Message {
	var ms []translate.Message
	for word := range strings.FieldsSeq(s) {
		data, id, _ := strings.Cut(word, "#")
		ms = append(ms, translate.Message{Data: []byte(data), ID: id})
	}
	return ms
}

func TestItems(t *testing.T) {
	const gap = "gap upstream"
	for name, test := range map[string]struct{ pages, want []string }{
		"grows at the end":             {[]string{"a b", "a b c d"}, []string{"a b", "c d"}},
		"grows at the start":           {[]string{"b a", "d c b a"}, []string{"b a", "c d"}},
		"slides, newest last":          {[]string{"a b c", "b c d", "c d e"}, []string{"a b c", "d", "e"}},
		"slides, newest first":         {[]string{"c b a", "d c b", "e d c"}, []string{"c b a", "d", "e"}},
		"unchanged":                    {[]string{"a b", "a b"}, []string{"a b", ""}},
		"an element changes":           {[]string{"a b c", "a B c"}, []string{"a b c", "B"}},
		"shrinks":                      {[]string{"a b c", "a", "b c"}, []string{"a b c", "", ""}},
		"equal elements, at the end":   {[]string{"a a", "a a a a"}, []string{"a a", "a a"}},
		"equal elements, in the midst": {[]string{"a b", "a b a b"}, []string{"a b", "a b"}},
		"equal, newest first":          {[]string{"b a", "a c b a"}, []string{"b a", "c a"}},
		"a whole page is new":          {[]string{"a b", "c d"}, []string{"a b", gap + " c d"}},
		"back to an older page":        {[]string{"a b", "c d", "a b"}, []string{"a b", gap + " c d", ""}},
		"empty at first":               {[]string{"", "a b"}, []string{"", "a b"}},
		"grows from one":               {[]string{"a", "a b"}, []string{"a", "b"}},

		"ids, at the end":                 {[]string{"a#1 b#2", "a#1 b#2 c#3"}, []string{"a#1 b#2", "c#3"}},
		"ids, at the start":               {[]string{"b#2 a#1", "c#3 b#2 a#1"}, []string{"a#1 b#2", "c#3"}},
		"newest first, then a whole page": {[]string{"b a", "c b a", "g f e"}, []string{"b a", "c", gap + " e f g"}},
		"newest last, then a whole page":  {[]string{"a b", "a b c", "e f g"}, []string{"a b", "c", gap + " e f g"}},
		"ids, newest first":               {[]string{"b#x a#y", "d#z c#w b#x a#y"}, []string{"b#x a#y", "c#w d#z"}},
		"numbers fall":                    {[]string{"c#10 b#9 a#8", "e#12 d#11 c#10"}, []string{"a#8 b#9 c#10", "d#11 e#12"}},
		"numbers rise":                    {[]string{"a#8 b#9 c#10", "b#9 c#10 d#11 e#12"}, []string{"a#8 b#9 c#10", "d#11 e#12"}},
		"numbers in no order":             {[]string{"b#9 c#10 a#8"}, []string{"b#9 c#10 a#8"}},
		"ids, at both ends":               {[]string{"b#b", "a#a b#b c#c"}, []string{"b#b", "a#a c#c"}},
		"ids, in the midst":               {[]string{"a#1 c#3", "a#1 b#2 c#3"}, []string{"a#1 c#3", "b#2"}},
		"ids, same data":                  {[]string{"a#1", "a#1 a#2"}, []string{"a#1", "a#2"}},
		"ids, an element changes":         {[]string{"a#1 b#2", "A#1 b#2"}, []string{"a#1 b#2", ""}},
		"ids, twice on a page":            {[]string{"a#1", "a#1 b#2 b#2"}, []string{"a#1", "b#2"}},
		"ids, twice on the first":         {[]string{"a#1 a#1 b#2"}, []string{"a#1 b#2"}},
		"ids, reordered":                  {[]string{"a#1 b#2", "b#2 a#1"}, []string{"a#1 b#2", ""}},
		"ids, a whole page is new":        {[]string{"a#1", "b#2 c#3"}, []string{"a#1", gap + " b#2 c#3"}},
		"ids, gone and back":              {[]string{"a#1 b#2", "b#2", "a#1 b#2"}, []string{"a#1 b#2", "", ""}},
	} {
		var it items
		for i, p := range test.pages {
			if got := write(it.news(page(p), false)); got != test.want[i] {
				t.Errorf("%s: page %d (%s) brings %q, want %q", name, i+1, p, got, test.want[i])
			}
		}
	}
}

// What one stream has learnt of its list holds for the history of the next one.
func TestItemsOrderIsTheRoutes(t *testing.T) {
	var order listOrder
	one, other := items{order: &order}, items{order: &order}
	one.news(page("b#x a#y"), false)
	one.news(page("c#z b#x a#y"), false)
	if got := write(other.news(page("c#z b#x a#y"), false)); got != "a#y b#x c#z" {
		t.Errorf("the next stream begins with %q", got)
	}
}

// A list without end costs no more memory than some of its pages.
func TestItemsAreForgotten(t *testing.T) {
	for _, id := range []string{"", "#"} {
		var it items
		for n := range 3000 {
			var p []string
			for i := range 20 {
				p = append(p, fmt.Sprint("x", n*10+i, id, strings.Repeat(fmt.Sprint(n*10+i), len(id))))
			}
			if got := it.news(page(strings.Join(p, " ")), false); n > 0 && (len(got) != 10 || got[0].Gap != "") {
				t.Fatalf("page %d brings %q", n, write(got))
			}
			if len(it.known) > 2*minRemembered+20 {
				t.Fatalf("%d elements are remembered", len(it.known))
			}
		}
	}
}

// Equal elements, and such that nearly overlap, must not cost the square of their number.
func TestItemsOverlapIsCheap(t *testing.T) {
	was, now := make([]itemKey, 100_000), make([]itemKey, 100_000)
	now[len(now)-1][0] = 1
	began := time.Now()
	if from, to, ok := overlap(was, now); !ok || from != len(now)-1 || to != len(now) {
		t.Errorf("%d..%d, %v", from, to, ok)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// naiveBorder is border without a thought to cost.
func naiveBorder(a, b []itemKey) int {
	for n := min(len(a), len(b)); n > 0; n-- {
		if slices.Equal(a[len(a)-n:], b[:n]) {
			return n
		}
	}
	return 0
}

func FuzzBorder(f *testing.F) {
	f.Add([]byte("ab"), []byte("ba"))
	f.Add([]byte("aabaa"), []byte("abaaab"))
	f.Add([]byte("aaaa"), []byte("aa"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		keys := func(s []byte) []itemKey {
			out := make([]itemKey, min(len(s), 64))
			for i := range out {
				out[i][0] = s[i] & 3
			}
			return out
		}
		a, b := keys(x), keys(y)
		if got, want := border(a, b), naiveBorder(a, b); got != want {
			t.Fatalf("border(%v, %v) is %d, want %d", x, y, got, want)
		}
	})
}

func TestPollItems(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			io.WriteString(w, `{"rows":[{"id":1,"t":"a"},{"id":2,"t":"b"}]}`)
		case 2:
			w.WriteHeader(500) // loses nothing
		case 3:
			io.WriteString(w, `{"rows":[{"id":2,"t":"b"},{"id":3,"t":"c"}]}`)
		default:
			io.WriteString(w, `{"rows":[{"id":8,"t":"y"},{"id":9,"t":"end"},{"id":10,"t":"late"}]}`)
		}
	}}
	polled(t, SourceSettings{Every: time.Second, Mode: ModeItems, Select: ".rows[]", ID: ".id", Data: ".t", Done: `.t=="end"`}, a, func(k *taking) {
		time.Sleep(10 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"a#1 b#2", "lost: answered 500", "c#3", "gap upstream y#8 end#9"}) || k.err != translate.ErrFinished {
			t.Errorf("%q, %v", got, k.err)
		}
	})
}

// A list that has nothing in it is not one of which the programs have dropped everything.
func TestPollOfAnEmptyList(t *testing.T) {
	a := &api{answer: bodies("[]")}
	polled(t, SourceSettings{Every: time.Second, Mode: ModeItems}, a, func(k *taking) {
		time.Sleep(5 * time.Minute)
		if said := k.log.String(); strings.Contains(said, "dropped") {
			t.Error(said)
		}
	})
}

func TestPollItemsDoneInHistory(t *testing.T) {
	a := &api{answer: bodies(`["a","end"]`)}
	polled(t, SourceSettings{Every: time.Second, Mode: ModeItems, Done: `.=="end"`}, a, func(k *taking) {
		time.Sleep(time.Second)
		k.expect("0s a end")
		if k.err != translate.ErrFinished || len(a.at()) != 1 {
			t.Errorf("%v, %d requests", k.err, len(a.at()))
		}
	})
}

// The stream is told once that the history is in, even if it is empty, and not by an answer that was not understood.
func TestPollHistory(t *testing.T) {
	for name, test := range map[string]struct {
		answers, want []string
	}{
		"empty":               {[]string{"[]", "[1]"}, []string{"", "1"}},
		"nothing understood":  {[]string{"5", "5", "[1,2]"}, []string{"1 2"}},
		"no JSON, then empty": {[]string{"<", "[]", "[1]"}, []string{"lost: payload is not JSON", "", "1"}},
	} {
		a := &api{answer: bodies(test.answers...)}
		polled(t, SourceSettings{Every: time.Second, Mode: ModeItems}, a, func(k *taking) {
			time.Sleep(8 * time.Second)
			if got := k.texts(); !slices.Equal(got, test.want) {
				t.Errorf("%s: %q, want %q", name, got, test.want)
			}
		})
	}
}

func TestFailuresAreSaidAtABoundedRate(t *testing.T) {
	var out bytes.Buffer
	rt := compiled(t, SourceSettings{From: "ws://legacy/"})
	log := slog.New(slog.NewTextHandler(&out, nil))
	for range 1000 {
		rt.failed(log, io.EOF)
	}
	if n := strings.Count(out.String(), "jq program failed"); n != 1 || rt.Stats.JQFailed.Load() != 1000 {
		t.Errorf("said %d times, counted %d", n, rt.Stats.JQFailed.Load())
	}
}
