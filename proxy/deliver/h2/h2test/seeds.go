package h2test

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Seeds are what fuzzing begins with: what a client may send after the preface.
func Seeds() (seeds [][]byte) {
	frames := func(do func(*http2.Framer)) []byte {
		var b bytes.Buffer
		do(http2.NewFramer(&b, nil))
		return b.Bytes()
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	get := func(w *http2.Framer, id uint32) {
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	seeds = append(seeds, frames(func(w *http2.Framer) { w.WriteSettings(); get(w, 1); w.WriteRSTStream(1, 0); get(w, 3) }))
	seeds = append(seeds, frames(func(w *http2.Framer) {
		w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
		get(w, 1)
		w.WriteWindowUpdate(1, 1<<31-1)
		w.WriteWindowUpdate(0, 1<<31-1)
		w.WriteGoAway(0, 0, nil)
		w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		w.WriteData(1, true, []byte("x"))
		get(w, 1)
	}))
	seeds = append(seeds, append(frames(func(w *http2.Framer) { w.WriteSettings(); get(w, 1) }), 0xff, 0xff, 0xff, 8, 0, 0, 0, 0, 0))
	seeds = append(seeds, binary.BigEndian.AppendUint32(nil, 1<<30))
	return seeds
}
