package migrate

import (
	"bytes"
	"fmt"
	"testing"
)

// read is what frames tells of parts.
func read(most int, deflate bool, parts ...[]byte) (told []string) {
	f := frames{most: most, deflate: deflate, keeps: deflate, tell: func(op byte, data []byte, skipped bool) {
		told = append(told, fmt.Sprintf("%d %q %v", op, data, skipped))
	}}
	for _, p := range parts {
		f.write(p)
	}
	return told
}

// TestFrames has the cases that a library's writer does not make.
func TestFrames(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"fragments with a ping between": {"\x01\x02ab\x89\x01!\x00\x01c\x80\x01d", []string{`1 "abcd" false`}},
		"empty":                         {"\x81\x00", []string{`1 "" false`}},
		"masked":                        {"\x82\x83\x01\x02\x03\x04\x60\x60\x60", []string{`2 "abc" false`}},
		"close, and nothing after it":   {"\x88\x02\x03\xe8\x81\x01a", []string{`8 "\x03\xe8" false`}},
		"close without a code":          {"\x88\x00", []string{`8 "" false`}},
		"too large":                     {"\x81\x09123456789\x81\x01a", []string{`1 "" true`, `1 "a" false`}},
		"a continuation of nothing":     {"\x80\x01a\x81\x01b", []string{`16 "" true`}},
		"a message inside another":      {"\x01\x01a\x81\x01b", []string{`16 "" true`}},
		"compressed, but not agreed":    {"\xc1\x01a\x81\x01b", []string{`16 "" true`}},
		"reserved bits":                 {"\xa1\x01a\x81\x01b", []string{`16 "" true`}},
		"a long ping":                   {"\x89\x7e\x00\x80", []string{`16 "" true`}},
	} {
		got := read(8, false, []byte(c.in))
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: told %v, want %v", name, got, c.want)
		}
	}
}

// FuzzFrames checks that where the bytes are cut changes nothing, and that nothing makes it panic.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x02ab\x89\x01!\x00\x01c\x80\x01d\x88\x02\x03\xe8"), 3)
	f.Add([]byte("\x82\x83\x01\x02\x03\x04\x60\x60\x60"), 1)
	f.Add([]byte("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00"), 2) // RFC 7692, section 7.2.3.2
	f.Add([]byte("\x81\x7e\x01\x00"), 2)
	f.Add([]byte("\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01\x01\x02\x03\x04\x05"), 5)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		whole := read(1<<10, true, in)
		var parts [][]byte
		for rest := in; len(rest) > 0; {
			n := min(max(cut%7, 1), len(rest))
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		if got := read(1<<10, true, parts...); fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Fatalf("cut each %d bytes: %v, whole: %v", cut, got, whole)
		}
	})
}

// TestInflatesWhatRefersBack is the example of RFC 7692, section 7.2.3.2: the second message refers to the first.
func TestInflatesWhatRefersBack(t *testing.T) {
	in := []byte("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00")
	if got := fmt.Sprint(read(1<<10, true, in)); got != `[1 "Hello" false 1 "Hello" false]` {
		t.Errorf("told %v", got)
	}
}

// TestInflatesNoMoreThanIsRead checks that a bomb costs what a message may cost.
func TestInflatesNoMoreThanIsRead(t *testing.T) {
	bomb := append([]byte{0xc1, 0x04}, 0xf2, 0x48, 0xcd, 0xc9) // cut short
	if got := fmt.Sprint(read(1<<10, true, bomb)); got != `[1 "" true 16 "" true]` {
		t.Errorf("a damaged message: told %v", got)
	}
	f := frames{most: 10, deflate: true, keeps: true, tell: func(byte, []byte, bool) {}}
	f.write([]byte("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"))
	f.most = 4
	f.write([]byte("\xc1\x05\xf2\x00\x11\x00\x00"))
	if !f.lost {
		t.Error("messages that refer to one that was too large are told")
	}
	if len(f.past) > 5 || !bytes.Equal(f.past, []byte("Hello")) {
		t.Errorf("what is kept to refer to: %q", f.past)
	}
}
