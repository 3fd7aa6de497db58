package decode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const bound = 1 << 20

func steps(t testing.TB, text string) Steps {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// compressed is data as step has it.
func compressed(t testing.TB, step Step, data string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := map[Step]func() io.WriteCloser{
		Gzip: func() io.WriteCloser { return gzip.NewWriter(&out) }, Zlib: func() io.WriteCloser { return zlib.NewWriter(&out) },
		Deflate: func() io.WriteCloser { w, _ := flate.NewWriter(&out, 6); return w },
	}[step]()
	if _, err := io.WriteString(w, data); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// golden are the lines of testdata/golden.txt, which other implementations have written (testdata/golden.mjs).
func golden(t testing.TB) (all [][3]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		one := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		packed, err := hex.DecodeString(one[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, [3]string{one[0], string(packed), one[2]})
	}
	return all
}

func TestGolden(t *testing.T) {
	all := golden(t)
	if len(all) < 100 {
		t.Fatalf("%d lines", len(all))
	}
	for _, one := range all {
		got, err := steps(t, one[0]).Decode([]byte(one[1]), bound)
		want := one[2]
		if err != nil || string(got) != want {
			t.Errorf("%s %x: %.200q, %v; want %.200q", one[0], one[1], got, err, want)
		}
	}
}

// Every message is cut short at every byte, and followed by one. None of these decodes.
func TestWholeOrNotAtAll(t *testing.T) {
	for _, one := range golden(t) {
		s := steps(t, one[0])
		for n := range len(one[1]) {
			if strings.HasSuffix(one[2], "}") && one[0] == "gzip" && strings.HasPrefix(one[1][n:], "\x1f\x8b\x08") {
				continue // the first of two members
			}
			if got, err := s.Decode([]byte(one[1][:n]), bound); err == nil {
				t.Errorf("%s %x, cut at %d: %.100q", one[0], one[1], n, got)
			}
		}
		if got, err := s.Decode([]byte(one[1]+"\x00"), bound); !errors.Is(err, errTrailing) && (one[0][:4] != "gzip" || err == nil) {
			t.Errorf("%s %x, and a byte more: %.100q, %v", one[0], one[1], got, err)
		}
	}
}

// The rules, one a row: RFC 8949 (appendix A and section 6.1) and MessagePack's specification where they have an answer.
func TestRules(t *testing.T) {
	for _, c := range []struct{ steps, packed, want string }{
		{"msgpack", "cfffffffffffffffff", "18446744073709551615"},
		{"msgpack", "d38000000000000000", "-9223372036854775808"},
		{"msgpack", "d0ff", "-1"}, {"msgpack", "d1fffe", "-2"}, {"msgpack", "d2fffffffd", "-3"}, {"msgpack", "ff", "-1"}, {"msgpack", "e0", "-32"},
		{"msgpack", "ca3dcccccd", "0.10000000149011612"}, // the number that it is
		{"msgpack", "82a1620181a16102a16203", "error"},   // a map for a key, and then one value too few
		{"msgpack", "82a16201a16202", `{"b":1,"b":2}`},
		{"msgpack", "8101c0", `{"1":null}`},
		{"msgpack", "81c0c3", `{"null":true}`},
		{"msgpack", "8192a1610201", `{"[\"a\",2]":1}`},
		{"msgpack", "81c4020001c2", `{"AAE=":false}`},
		{"msgpack", "a2c328", `"\ufffd("`},
		{"msgpack", "a3e280a8", `"\u2028"`},
		{"msgpack", "d7ff773594026cb5db00", `"2300-01-01T00:00:00.5Z"`},
		{"msgpack", "d6ff00000001", `"1970-01-01T00:00:01Z"`},
		{"msgpack", "c70cff000000017fffffffffffffff", `{"type":-1,"data":"AAAAAX//////////"}`}, // a year that RFC 3339 does not have
		{"msgpack", "d60500010203", `{"type":5,"data":"AAECAw=="}`},
		{"msgpack", "c70003", `{"type":3,"data":""}`},
		{"msgpack", "c1", "error"},
		{"msgpack", "", "error"},
		{"msgpack", "ddffffffff", "error"}, {"msgpack", "dfffffffff", "error"}, {"msgpack", "dbffffffff61", "error"}, {"msgpack", "c6ffffffff61", "error"}, {"msgpack", "c9ffffffff0561", "error"},
		{"cbor", "1bffffffffffffffff", "18446744073709551615"},
		{"cbor", "3bffffffffffffffff", "-18446744073709551616"},
		{"cbor", "c249010000000000000000", "18446744073709551616"},
		{"cbor", "c349010000000000000000", "-18446744073709551617"},
		{"cbor", "c25f4101480000000000000000ff", "18446744073709551616"},
		{"cbor", "c240", "0"}, {"cbor", "c340", "-1"},
		{"cbor", "c26161", "error"},
		{"cbor", "f98000", "-0"}, {"cbor", "f90001", "5.960464477539063e-8"}, {"cbor", "f97bff", "65504"}, {"cbor", "f9c400", "-4"}, {"cbor", "fa7f7fffff", "3.4028234663852886e+38"},
		{"cbor", "f97c00", "null"}, {"cbor", "f97e00", "null"}, {"cbor", "f7", "null"}, {"cbor", "f0", "null"}, {"cbor", "f8ff", "null"},
		{"cbor", "f818", "error"}, // RFC 8949, section 3.3: not well-formed
		{"cbor", "c074323031332d30332d32315432303a30343a30305a", `"2013-03-21T20:04:00Z"`},
		{"cbor", "c1fb41d452d9ec200000", "1363896240.5"},
		{"cbor", "d9d9f7820102", "[1,2]"},
		{"cbor", "4401020304", `"AQIDBA=="`}, {"cbor", "d74401020304", `"01020304"`}, {"cbor", "d543ffefbe", `"_---"`}, {"cbor", "82d643ffefbe43ffefbe", `["/+++","/+++"]`}, {"cbor", "82d741ff41ff", `["FF","/w=="]`},
		{"cbor", "5f42010243030405ff", `"AQIDBAU="`}, {"cbor", "7f657374726561646d696e67ff", `"streaming"`},
		{"cbor", "5f6161ff", "error"}, {"cbor", "7f7f6161ffff", "error"}, {"cbor", "7f7f6161ff", "error"}, {"cbor", "1f", "error"}, {"cbor", "df00", "error"}, {"cbor", "1c", "error"}, {"cbor", "ff", "error"}, {"cbor", "82ff01", "error"},
		{"cbor", "9f018202039f0405ffff", "[1,[2,3],[4,5]]"}, {"cbor", "bf6346756ef563416d7421ff", `{"Fun":true,"Amt":-2}`}, {"cbor", "bf6161ff", "error"}, {"cbor", "9f01", "error"},
		{"cbor", "a201020304", `{"1":2,"3":4}`},
		{"cbor", "9bffffffffffffffff", "error"}, {"cbor", "bbffffffffffffffff", "error"}, {"cbor", "7bffffffffffffffff61", "error"}, {"cbor", "5b7fffffffffffffff61", "error"},
	} {
		packed, err := hex.DecodeString(c.packed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := steps(t, c.steps).Decode(packed, bound)
		if c.want == "error" {
			if err == nil || errors.Is(err, ErrTooLarge) {
				t.Errorf("%s %s: %q, %v", c.steps, c.packed, got, err)
			}
		} else if err != nil || string(got) != c.want {
			t.Errorf("%s %s: %q, %v; want %q", c.steps, c.packed, got, err, c.want)
		}
	}
}

func TestDepth(t *testing.T) {
	for _, c := range []struct{ steps, level, end string }{
		{"msgpack", "\x91", ""}, {"msgpack", "\x81\xc0", ""}, {"cbor", "\x81", ""}, {"cbor", "\xc6", ""}, {"cbor", "\x9f", "\xff"}, {"cbor", "\xa1\x00", ""},
	} {
		for deep, fine := range map[int]bool{maxDepth: true, maxDepth + 1: false, 1_000_000: false} {
			packed := strings.Repeat(c.level, deep) + "\x01" + strings.Repeat(c.end, deep)
			if _, err := steps(t, c.steps).Decode([]byte(packed), bound); fine != (err == nil) || !fine && !errors.Is(err, errDepth) {
				t.Errorf("%s, %d times %x: %v", c.steps, deep, c.level, err)
			}
		}
	}
	for step, one := range map[Step]string{Msgpack: "\x91\xc0", CBOR: "\xc6\x81\xf6"} { // side by side
		packed := append([]byte{0xdc, 0x03, 0xe8}, strings.Repeat(one, 1000)...)
		if step == CBOR {
			packed[0], packed[1], packed[2] = 0x99, 0x03, 0xe8
		}
		if _, err := (Steps{step}).Decode(packed, bound); err != nil {
			t.Errorf("%s, side by side: %v", step, err)
		}
	}
	keys := strings.Repeat("\x81", 100) + strings.Repeat("\x01", 101) // in keys, whose quotes double at each level
	if _, err := (Steps{Msgpack}).Decode([]byte(keys), bound); !errors.Is(err, ErrTooLarge) {
		t.Errorf("keys in keys: %v", err)
	}
}

// What a message may become has a bound, and so has the memory on the way there.
func TestBomb(t *testing.T) {
	zeros := strings.Repeat("\x00", 8<<20)
	twice := string(compressed(t, Gzip, zeros))
	for _, c := range []struct{ steps, packed string }{
		{"gzip", twice}, {"zlib", string(compressed(t, Zlib, zeros))}, {"deflate", string(compressed(t, Deflate, zeros))},
		{"gzip,gzip", string(compressed(t, Gzip, twice))}, {"gzip,msgpack", twice},
		{"msgpack", "\xdd\x00\x0f\x00\x00" + strings.Repeat("\xc2", 0xf0000)},
		{"msgpack", "\xc6\x00\x0f\x00\x00" + strings.Repeat("\x00", 0xf0000)},
		{"cbor", "\x9f" + strings.Repeat("\xf9\x00\x01", 300_000) + "\xff"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := steps(t, c.steps).Decode([]byte(c.packed), bound)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %d bytes, %v", c.steps, len(got), err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 5*bound {
			t.Errorf("%s: %d bytes were allocated", c.steps, used)
		}
	}
	for _, step := range []Step{Gzip, Zlib, Deflate} { // at the bound itself
		exact := compressed(t, step, zeros[:bound])
		if got, err := (Steps{step}).Decode(exact, bound); err != nil || len(got) != bound {
			t.Errorf("%s: %d bytes, %v", step, len(got), err)
		}
		if _, err := (Steps{step}).Decode(exact, bound-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s, a byte over: %v", step, err)
		}
	}
	list := "\xdc\x00\x03\x01\x02\x03"
	if got, err := (Steps{Msgpack}).Decode([]byte(list), 7); err != nil || string(got) != "[1,2,3]" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (Steps{Msgpack}).Decode([]byte(list), 6); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte over: %v", err)
	}
}

// A declared length allocates nothing.
func TestDeclaredLengths(t *testing.T) {
	for _, c := range []struct{ steps, packed string }{
		{"msgpack", "\xdd\xff\xff\xff\xff"}, {"msgpack", "\xdb\xff\xff\xff\xffa"}, {"cbor", "\x9b\x00\x00\xff\xff\xff\xff\xff\xff"}, {"cbor", "\x7b\x00\x00\xff\xff\xff\xff\xff\xffa"},
		{"cbor", "\xc2\x5b\x00\x00\xff\xff\xff\xff\xff\xffa"},
	} {
		s := steps(t, c.steps)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 1000 {
			_, _ = s.Decode([]byte(c.packed), 1<<30)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / 1000; n > 1024 {
			t.Errorf("%s %x: %d bytes", c.steps, c.packed, n)
		}
	}
}

func TestLongIntegers(t *testing.T) {
	bignum := func(n int) []byte {
		return append([]byte{0xc2, 0x59, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{0xff}, n)...)
	}
	if got, err := (Steps{CBOR}).Decode(bignum(maxBignum), bound); err != nil || len(got) < 19_990 || len(got) > 20_000 {
		t.Errorf("%d digits, %v", len(got), err)
	}
	if _, err := (Steps{CBOR}).Decode(bignum(maxBignum+1), bound); err == nil {
		t.Error("an integer that is too long")
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " gzip ": "gzip", "zlib, msgpack": "zlib,msgpack", "gzip,gzip,deflate,cbor": "gzip,gzip,deflate,cbor",
		"brotli": "write gzip, deflate", "gzip,": "write gzip, deflate", "GZIP": "write gzip, deflate", "msgpack,gzip": "write it last, and gzip before it",
		"cbor,cbor": "write it last", "gzip,gzip,gzip,gzip,gzip": "more than 4 steps",
	} {
		got, err := Parse(text)
		if err == nil && got.String() != want || err != nil && !strings.Contains(err.Error(), want) || err != nil && got != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Errors end up in logs.
func TestErrorsQuoteNothing(t *testing.T) {
	secret := "tok-9d41f0"
	for _, c := range []struct{ steps, packed, want string }{
		{"msgpack", "\x92\xaa" + secret, "msgpack: at byte 12: it is cut short"},
		{"msgpack", "\xaa" + secret + "\xc0", "msgpack: at byte 11: something follows it"},
		{"msgpack", "\x91\xc1" + secret, "msgpack: at byte 2: it has a byte that MessagePack does not use"},
		{"cbor", "\x82\x6a" + secret, "cbor: at byte 12: it is cut short"},
		{"gzip", `{"token":"` + secret + `"}`, "gzip: it, or what follows it, does not begin as that does"},
		{"gzip", string(compressed(t, Gzip, secret)) + "tok", "gzip: it is cut short"},
		{"gzip", string(compressed(t, Gzip, secret)) + secret, "gzip: it, or what follows it, does not begin as that does"},
		{"gzip", strings.Replace(string(compressed(t, Gzip, secret)), "\x00\x00\x00\x00", "\x00\x00\x00\x01", 1)[:20], "gzip: it is cut short"},
		{"zlib", secret, "zlib: it, or what follows it, does not begin as that does"},
		{"zlib", string(compressed(t, Zlib, secret)) + secret, "zlib: something follows it"},
		{"zlib", "\x78\xbb\x00\x00\x00\x02", "zlib: it needs a dictionary, which nobody has"},
		{"deflate", "\x07" + secret, "deflate: it is damaged"},
	} {
		_, err := steps(t, c.steps).Decode([]byte(c.packed), bound)
		if err == nil || err.Error() != c.want || strings.Contains(err.Error(), secret) {
			t.Errorf("%s %q: %v; want %s", c.steps, c.packed, err, c.want)
		}
	}
	flipped := compressed(t, Zlib, secret)
	flipped[len(flipped)-1] ^= 1
	if _, err := (Steps{Zlib}).Decode(flipped, bound); err == nil || err.Error() != "zlib: its checksum is wrong" {
		t.Error(err)
	}
}

// Readers are used again, also after a message that failed.
func TestReadersAreUsedAgain(t *testing.T) {
	for _, step := range []Step{Gzip, Zlib, Deflate} {
		good := compressed(t, step, "good")
		for i := range 50 {
			bad := slices.Clone(good)
			bad[i%len(bad)] ^= 0xff
			_, _ = (Steps{step}).Decode(bad, bound)
			_, _ = (Steps{step}).Decode(good[:i%len(good)], bound)
			if got, err := (Steps{step}).Decode(good, bound); err != nil || string(got) != "good" {
				t.Fatalf("%s: %q, %v", step, got, err)
			}
		}
	}
}
