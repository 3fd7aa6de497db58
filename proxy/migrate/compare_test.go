package migrate

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	seed  = maphash.MakeSeed()
	start = time.Unix(1_800_000_000, 0)
)

func item(at time.Duration, text string) Item {
	name, _, _ := strings.Cut(text, ":")
	return Item{Name: name, Hash: Hash(seed, name, []byte(text)), At: start.Add(at), Text: text}
}

// compared is what comes of two sides that begin at 0, each of whose messages comes a tenth of a second after the one before, from 2 s on; -
// is a pause. The new side is late by some milliseconds.
func compared(o, n string) string {
	var told []string
	c := &Comparison{Wait: 5 * time.Second, Tell: func(d Difference) {
		text := d.Result
		for _, it := range []*Item{d.Old, d.New} {
			if it != nil {
				text += " " + it.Text
			}
		}
		told = append(told, text)
	}}
	c.There(false, start)
	c.There(true, start)
	olds, news := strings.Fields(o), strings.Fields(n)
	for i := range max(len(olds), len(news)) {
		at := 2*time.Second + time.Duration(i)*100*time.Millisecond
		if i < len(olds) && olds[i] != "-" {
			c.Add(false, item(at, olds[i]))
		}
		if i < len(news) && news[i] != "-" {
			c.Add(true, item(at+5*time.Millisecond, news[i]))
		}
		c.Settle(start.Add(at))
	}
	c.Settle(start.Add(time.Hour))
	return fmt.Sprintf("%d %v", c.Counts()[Equal], told)
}

func TestComparison(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"equal":                         {"1 2 3 4", "1 2 3 4", "4 []"},
		"the same twice":                {"1 1 2 2", "1 1 2 2", "4 []"},
		"missing":                       {"1 2 3 4", "1 2 - 4", "3 [missing 3]"},
		"missing one of two":            {"1 1 2 3", "1 2 3", "3 [missing 1]"},
		"doubled":                       {"1 2 3 4", "1 2 2 3 4", "4 [extra 2]"},
		"extra":                         {"1 2", "1 9 2", "2 [extra 9]"},
		"reordered":                     {"1 2 3 4", "1 3 2 4", "3 [reordered 2 2]"},
		"one comes late":                {"1 2 3 4 5", "2 3 4 5 1", "4 [reordered 1 1]"},
		"one comes early":               {"1 2 3 4 5", "5 1 2 3 4", "4 [reordered 5 5]"},
		"changed":                       {"a:1 a:2 a:3", "a:1 a:7 a:3", "2 [changed a:2 a:7]"},
		"changed, of another name":      {"a:1 a:2 a:3", "a:1 b:2 a:3", "2 [missing a:2 extra b:2]"},
		"missing here, extra elsewhere": {"a:1 a:2 a:3 a:4", "a:1 a:3 a:9 a:4", "3 [missing a:2 extra a:9]"},
		"late, but not too late":        {"1 2", strings.Repeat("- ", 40) + "1 2", "2 []"},
		"the stream is ahead":           {strings.Repeat("- ", 40) + "1 2", "1 2", "2 []"},
		"nothing at all":                {"", "", "0 []"},
		"nothing on the stream":         {"1 2", "", "0 [missing 1 missing 2]"},
		"nothing on the old connection": {"", "1 2", "0 [extra 1 extra 2]"},
	} {
		if got := compared(c.old, c.new); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestComparisonOfRandomFaults plants one fault into a long session with repeated messages, and wants it found, and nothing else.
func TestComparisonOfRandomFaults(t *testing.T) {
	for i := range 400 {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		var olds []string
		for k := range 200 {
			olds = append(olds, fmt.Sprintf("n%d:%d", rnd.IntN(3), k/(1+rnd.IntN(2))))
		}
		news := append([]string{}, olds...)
		at := 1 + rnd.IntN(198)
		want := ""
		switch i % 4 {
		case 0:
			news, want = append(news[:at:at], news[at+1:]...), Missing
		case 1:
			news, want = append(news[:at+1:at+1], news[at:]...), Extra
		case 2:
			if news[at] == news[at+1] {
				continue
			}
			news[at], news[at+1], want = news[at+1], news[at], Reordered
		case 3:
			news[at], want = news[at]+"x", Changed
		}
		got := compared(strings.Join(olds, " "), strings.Join(news, " "))
		if strings.Count(got, "ed ")+strings.Count(got, "missing ")+strings.Count(got, "extra ") != 1 || !strings.Contains(got, want) {
			t.Errorf("seed %d: planted %s at %d, told %s", i, want, at, got)
		}
	}
}

// TestComparisonOfBursts: what has changed stands for what it was, in order, also where the machine gives each side's messages at once.
func TestComparisonOfBursts(t *testing.T) {
	for _, c := range []struct {
		olds, news int
		want       map[string]int64
	}{
		{8, 8, map[string]int64{Changed: 8}},
		{8, 6, map[string]int64{Changed: 6, Missing: 2}},
		{6, 8, map[string]int64{Changed: 6, Extra: 2}},
	} {
		var told []Difference
		one := &Comparison{Wait: 5 * time.Second, Tell: func(d Difference) { told = append(told, d) }}
		one.There(false, start)
		one.There(true, start)
		for i := range c.olds {
			one.Add(false, item(10*time.Second+time.Duration(i)*time.Millisecond, fmt.Sprintf("m:%d", i)))
		}
		for i := range c.news {
			one.Add(true, item(10*time.Second+time.Duration(60+i)*time.Millisecond, fmt.Sprintf("m:%d of the stream", i)))
		}
		one.Settle(start.Add(time.Hour))
		if !maps.Equal(one.Counts(), c.want) {
			t.Errorf("%d and %d: %v, want %v", c.olds, c.news, one.Counts(), c.want)
		}
		var before *Difference
		for _, d := range told {
			if d.Result != Changed {
				continue
			}
			if before != nil && (d.Old.Text <= before.Old.Text || d.New.Text <= before.New.Text) {
				t.Errorf("%s and %s after %s and %s", d.Old.Text, d.New.Text, before.Old.Text, before.New.Text)
			}
			before = &d
		}
	}
}

// TestComparisonBegins checks what need not be on both sides: what came before both were there, and during interruptions.
func TestComparisonBegins(t *testing.T) {
	var told []Difference
	c := &Comparison{Wait: 5 * time.Second, Tell: func(d Difference) { told = append(told, d) }}
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	c.There(true, start)
	for _, at := range []float64{0, 1, 2} { // a replay, and what comes until the old client is there
		c.Add(true, item(second(at), fmt.Sprint("before", at)))
	}
	c.There(false, start.Add(second(3)))
	c.Add(false, item(second(3.1), "greeting"))
	c.Add(false, item(second(3.2), "before2")) // the last state, which is sent to all who come
	c.Add(true, item(second(3.5), "now"))
	c.Add(false, item(second(5), "5"))
	c.Add(true, item(second(5), "5"))
	c.Away(false)
	c.Add(true, item(second(6), "6"))
	c.There(false, start.Add(second(7)))
	c.Add(true, item(second(7.5), "7.5"))
	c.Add(true, item(second(9), "9"))
	c.Settle(start.Add(time.Hour))
	if len(told) != 1 || told[0].Result != Extra || told[0].New.Text != "9" || c.Counts()[Equal] != 1 {
		t.Errorf("told %+v, counts %v", told, c.Counts())
	}
}

// TestStatesBetweenPolls checks that a state that one side saw briefly is no difference, and one that lasted is.
// TestChangeOfPlacesAtTheBeginning: two messages that change places just as both sides have begun are no difference, since one of them need not be on both; the
// same message much later has to be.
func TestChangeOfPlacesAtTheBeginning(t *testing.T) {
	for _, late := range []bool{false, true} { // the new side, or the old one, has them the other way round
		told := []string{}
		c := &Comparison{Wait: 5 * time.Second, Tell: func(d Difference) { told = append(told, d.Result) }}
		c.There(false, start)
		c.There(true, start)
		for i, texts := range [][2]string{{"7", "8"}, {"8", "7"}, {"9", "9"}, {"10", "10"}} {
			at := SettleTime + time.Duration(i)*10*time.Millisecond - 5*time.Millisecond
			c.Add(late, item(at, texts[0]))
			c.Add(!late, item(at+time.Millisecond, texts[1]))
		}
		c.Settle(start.Add(time.Minute))
		if len(told) > 0 || c.Counts()[Equal] < 2 {
			t.Errorf("%v, %d equal", told, c.Counts()[Equal])
		}
		c.Add(false, item(2*time.Minute, "7"))
		c.Add(false, item(2*time.Minute, "11"))
		c.Add(true, item(2*time.Minute, "11"))
		if c.Settle(start.Add(3 * time.Minute)); len(told) != 1 || told[0] != Missing {
			t.Errorf("what is missing later is %v", told)
		}
	}
}

func TestStatesBetweenPolls(t *testing.T) {
	c := &Comparison{Wait: 10 * time.Second, Brief: 4 * time.Second}
	c.There(false, start)
	c.There(true, start)
	for _, one := range []struct {
		at    int
		isNew bool
		text  string
	}{{2, false, "a"}, {3, true, "a"}, {4, false, "b"}, {6, false, "c"}, {7, true, "c"}, {20, false, "d"}, {30, false, "e"}, {31, true, "e"}} {
		c.Add(one.isNew, item(time.Duration(one.at)*time.Second, one.text))
	}
	c.Settle(start.Add(time.Hour))
	if got := fmt.Sprint(c.Counts(), c.Passed()); got != "map[equal:3 missing:1] 1" {
		t.Errorf("got %s", got)
	}
}

// TestLongBeginnings checks that what one side begins with, however long, hides nothing that comes after it.
func TestLongBeginnings(t *testing.T) {
	for _, isNew := range []bool{false, true} {
		c := &Comparison{Wait: 5 * time.Second}
		c.There(!isNew, start)
		c.There(isNew, start)
		for i := range 1000 { // a list that is there
			c.Add(isNew, item(time.Millisecond, fmt.Sprint("list ", i)))
		}
		for i := range 20 {
			at := time.Duration(2+3*i) * time.Second
			c.Settle(start.Add(at))
			c.Add(isNew, item(at, fmt.Sprint("new ", i)))
			if i != 10 {
				c.Add(!isNew, item(at+time.Second, fmt.Sprint("new ", i)))
			}
		}
		c.Settle(start.Add(time.Hour))
		want := "map[equal:19 missing:1]"
		if isNew {
			want = "map[equal:19 extra:1]"
		}
		if got := fmt.Sprint(c.Counts()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestStatesThatLast checks that a state that lasts is missed, also where it is the newest, and though states change slower than anybody waits.
func TestStatesThatLast(t *testing.T) {
	c := &Comparison{Wait: 10 * time.Second, Brief: 3 * time.Second}
	c.There(false, start)
	c.There(true, start)
	for i := range 20 {
		at := time.Duration(2+30*i) * time.Second
		c.Add(false, item(at, fmt.Sprint("a:", i)))
		if i < 4 { // then the stream dies
			c.Add(true, item(at+time.Second, fmt.Sprint("a:", i)))
		}
		for s := range 30 {
			c.Settle(start.Add(at + time.Duration(s)*time.Second))
		}
	}
	c.Settle(start.Add(time.Hour))
	if got := fmt.Sprint(c.Counts(), c.Passed()); got != "map[equal:4 missing:16] 0" {
		t.Errorf("got %s", got)
	}
}

// TestWhatIsLostIsForgiven checks that what the other side has had since a side's last message need not have its equal, once it is known that that
// side has lost something.
func TestWhatIsLostIsForgiven(t *testing.T) {
	c := &Comparison{Wait: 5 * time.Second}
	c.There(false, start)
	c.There(true, start)
	for i := range 20 {
		at := time.Duration(2+i) * time.Second
		c.Add(true, item(at, fmt.Sprint(i)))
		if i%4 != 3 {
			c.Add(false, item(at, fmt.Sprint(i)))
			continue
		}
		c.Away(false)
		c.There(false, start.Add(at))
		c.Settle(start.Add(at))
	}
	c.Settle(start.Add(time.Hour))
	if got := fmt.Sprint(c.Counts()); got != "map[equal:15]" {
		t.Errorf("got %s", got)
	}
}

// TestComparisonIsBounded checks that a side that nothing answers does not grow without end.
func TestComparisonIsBounded(t *testing.T) {
	c := &Comparison{Wait: time.Hour}
	c.There(false, start)
	c.There(true, start)
	for i := range maxItems + 50 {
		c.Add(false, item(2*time.Second, fmt.Sprint(i)))
	}
	if len(c.sides[old].items) != maxItems || c.Lost() != 50 {
		t.Errorf("%d wait, %d were lost", len(c.sides[old].items), c.Lost())
	}
}

// TestComparisonAway checks that what was on its way to one side when that was interrupted is no difference, where the other has heard of it earlier, and
// that what came long before is one.
func TestComparisonAway(t *testing.T) {
	var told []string
	c := &Comparison{Wait: 2 * time.Second, Tell: func(d Difference) { told = append(told, d.Result+" "+d.Old.Text) }}
	c.There(false, start)
	c.There(true, start)
	c.Add(false, item(2*time.Second, "0"))
	c.Add(false, item(4*time.Second, "1"))
	c.Add(false, item(4010*time.Millisecond, "2"))
	c.Add(true, item(4020*time.Millisecond, "1")) // which the new side has been told of when the old one had 2
	c.Away(true)
	c.Settle(start.Add(time.Minute))
	if got := fmt.Sprint(c.Counts()[Equal], told); got != "1 [missing 0]" {
		t.Error(got)
	}
}

// TestComparisonChangedAtTheEdge checks that a message that has changed, and need be there on one side only, as it came there a little earlier, is no difference.
func TestComparisonChangedAtTheEdge(t *testing.T) {
	var told []string
	c := &Comparison{Wait: 2 * time.Second, Tell: func(d Difference) { told = append(told, d.Result) }}
	c.There(false, start)
	c.There(true, start)
	edge := SettleTime
	c.Add(false, item(edge-5*time.Millisecond, "m:changed"))
	c.Add(true, item(edge+5*time.Millisecond, "m:1"))
	for i := range 30 {
		text := fmt.Sprint("m:", i+2)
		c.Add(false, item(edge+time.Duration(i+1)*100*time.Millisecond, text))
		c.Add(true, item(edge+time.Duration(i+1)*100*time.Millisecond+10*time.Millisecond, text))
	}
	edge += 4 * time.Second
	c.Add(true, item(edge, "m:-1"))
	c.Add(false, item(edge, "m:changed"))
	c.Add(false, item(edge+5*time.Millisecond, "m:-2"))
	c.Add(true, item(edge+10*time.Millisecond, "m:-2"))
	c.Away(true)
	c.Settle(start.Add(time.Minute))
	if c.Counts()[Equal] < 30 || len(told) > 0 {
		t.Errorf("%d are equal, %q", c.Counts()[Equal], told)
	}
}

// TestComparisonOneExcusesOne checks that what was let go of at an edge stands for one message, and that others that are missing there are told.
func TestComparisonOneExcusesOne(t *testing.T) {
	c := &Comparison{Wait: 2 * time.Second}
	c.There(false, start)
	c.There(true, start)
	c.Add(true, item(SettleTime-50*time.Millisecond, "m:first"))
	for i := range 20 {
		c.Add(false, item(SettleTime+time.Duration(i)*40*time.Millisecond, fmt.Sprint("m:", i)))
	}
	for i := range 30 {
		for _, isNew := range []bool{false, true} {
			c.Add(isNew, item(SettleTime+time.Duration(i+20)*40*time.Millisecond, fmt.Sprint("m:both ", i)))
		}
	}
	c.Settle(start.Add(time.Minute))
	if counts := c.Counts(); counts[Missing] != 19 || counts[Equal] != 30 || len(counts) != 2 {
		t.Error(counts)
	}
}
