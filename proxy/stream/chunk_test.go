package stream

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"testing"
)

func TestAppendChunk(t *testing.T) {
	for _, size := range []int{1, 15, 16, 255, 256, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		all := AppendChunk([]byte("before"), func(dst []byte) []byte { return append(dst, body...) })
		chunk, ok := bytes.CutPrefix(all, []byte("before"))
		if !ok {
			t.Errorf("%d: what was before is overwritten", size)
		}
		if want := append(append(fmt.Appendf(nil, "%x\r\n", size), body...), ChunkEnd...); !bytes.Equal(chunk, want) {
			t.Errorf("%d: %.20q…", size, chunk)
		}
		if got := inChunk(chunk); !bytes.Equal(got, body) {
			t.Errorf("%d: in the chunk is %.20q…", size, got)
		}
		read, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(chunk, LastChunk...))))
		if err != nil || !bytes.Equal(read, body) {
			t.Errorf("%d: read as %.20q…, %v", size, read, err)
		}
	}
}
