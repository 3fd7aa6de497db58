package decode

import (
	"fmt"
	"time"
)

// Notepack is what data, MessagePack in the manner of notepack.io 2.2, holds as JSON of at most bound bytes. Extension 0 has other meanings there: of
// one byte it is undefined, of eight a Date, else it is bytes. They become what JSON.stringify makes of them, and bytes base64, or with text
// what they are as UTF-8. bytes reports whether there are any. The errors are those of [Steps.Decode].
func Notepack(data []byte, bound int, text bool) (out []byte, bytes bool, err error) {
	r := msgpack{reading: read(data, bound), notepack: true, plain: text}
	out, err = r.result(r.value())
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", Msgpack, err)
	}
	return out, r.binary, nil
}

// undefinedOrDate writes an extension 0 of a fixed size, which has n bytes.
func (r *msgpack) undefinedOrDate(data string) error {
	if len(data) != 8 {
		return r.word("null")
	}
	v := reading{in: data}
	ms, _ := v.uint(8)
	at := time.UnixMilli(int64(ms)).UTC()
	if at.Year() < 0 || at.Year() > 9999 {
		return r.word("null")
	}
	return r.text(at.Format("2006-01-02T15:04:05.000Z"))
}
