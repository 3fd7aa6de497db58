package h2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// follows holds that after blocks, each of which is written in pieces, a decoder that is given the table reads what one reads that has read them all.
func follows(t *testing.T, blocks [][]byte, last []byte) {
	t.Helper()
	var old, anew []hpack.HeaderField
	nothing := func(hpack.HeaderField) {}
	whole := hpack.NewDecoder(tableMost, nothing)
	followed := newTable()
	for _, block := range blocks {
		if _, err := whole.Write(block); err != nil || whole.Close() != nil {
			return // net/http would have ended the connection
		}
		for len(block) > 0 {
			n := min(len(block), 1+rand.IntN(50))
			followed.write(block[:n])
			block = block[n:]
		}
		if followed.broken {
			t.Fatal("a block is taken for none")
		}
		if !followed.whole() {
			t.Fatal("something is left of a block")
		}
	}
	given := hpack.NewDecoder(tableMost, nothing)
	if _, err := given.Write(followed.appendBlock(nil)); err != nil || given.Close() != nil {
		t.Fatalf("the table is not read: %v", err)
	}
	whole.SetEmitFunc(func(f hpack.HeaderField) { old = append(old, f) })
	given.SetEmitFunc(func(f hpack.HeaderField) { anew = append(anew, f) })
	// Every field that there may be, by its index.
	for i := range 61 + tableMost/fieldCost {
		index := appendNumber(nil, 0x80, 7, i+1)
		_, err := whole.Write(index)
		_, same := given.Write(index)
		if fmt.Sprint(err) != fmt.Sprint(same) {
			t.Fatalf("of index %d: %v and %v", i+1, err, same)
		}
		if err != nil {
			break
		}
	}
	whole.Close()
	given.Close()
	_, err := whole.Write(last)
	_, same := given.Write(last)
	if fmt.Sprint(err, whole.Close()) != fmt.Sprint(same, given.Close()) || fmt.Sprint(old) != fmt.Sprint(anew) {
		t.Fatalf("after it came %v and %v:\n%v\n%v", err, same, old, anew)
	}
}

// TestTableFollows: whatever a client does to the table, a net/http that is called back can be given it.
func TestTableFollows(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 7))
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		var blocks [][]byte
		text := func(most int) string {
			if random.IntN(3) == 0 {
				return strings.Repeat("é\x01~", random.IntN(most)/3)
			}
			return strings.Repeat(fmt.Sprint(random.IntN(30)), random.IntN(most)/2)
		}
		names := []string{":path", "cookie", "x-a", "x-b", "accept", "authorization"}
		for range 1 + random.IntN(20) {
			b.Reset()
			if random.IntN(6) == 0 {
				e.SetMaxDynamicTableSize(uint32(random.IntN(tableMost + 1)))
			}
			for range random.IntN(12) {
				f := hpack.HeaderField{Name: names[random.IntN(len(names))], Value: text(60), Sensitive: random.IntN(8) == 0}
				switch random.IntN(30) {
				case 0:
					f.Value = text(9000)
				case 1:
					f.Name = strings.ToLower(text(5000)) + "n"
				}
				e.WriteField(f)
			}
			blocks = append(blocks, bytes.Clone(b.Bytes()))
		}
		last := len(blocks) - 1
		follows(t, blocks[:last], blocks[last])
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

// TestTableBounds: a string that is longer than the table does not stay, in memory neither.
func TestTableBounds(t *testing.T) {
	followed := newTable()
	followed.write(append([]byte{0x40, 1, 'x'}, appendNumber(nil, 0, 7, 10_000_000)...))
	for range 10_000 {
		followed.write(make([]byte, 1000))
	}
	if n := cap(followed.text); n > 64<<10 {
		t.Errorf("it keeps %d bytes of a string", n)
	}
	if !followed.whole() || followed.size != 0 || len(followed.fields) != 0 {
		t.Errorf("broken: %v, %d bytes, %d fields", followed.broken, followed.size, len(followed.fields))
	}
	for name, bad := range map[string][]byte{
		"a number without end":               {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a table that is too large":          {0x3f, 0xe2, 0x1f},
		"the name of a field that is none":   {0x7f, 0x80, 0x01, 1, 'x'},
		"a text that Huffman's code is not":  {0x41, 0x81, 0x00},
		"a name that Huffman's code is not":  {0x40, 0x81, 0x00, 1, 'x'},
		"a name that is not of any of those": {0x40 | 62, 1, 'x'},
	} {
		broken := newTable()
		if broken.write(bad); !broken.broken {
			t.Errorf("%s is taken for a field: %v", name, broken.fields)
		}
	}
}

// FuzzTable holds the table against hpack's own.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0x82, 0x41, 1, 'x', 0x20, 0x3f, 0xe1, 0x1f}, []byte{0xbe, 0x40, 1, 'a', 1, 'b'}, []byte{0xbe})
	f.Fuzz(func(t *testing.T, a, b, last []byte) { follows(t, [][]byte{a, b}, last) })
}
