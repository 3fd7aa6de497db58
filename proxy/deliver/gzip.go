package deliver

import (
	"net/http"

	"sidestream/proxy/deflate"
	"sidestream/proxy/stream"
)

// This file is what clients get that take gzip, beside the events (batch.go). The rules:
//
//   - What a client is told of its own is compressed alone, and it leaves its run with it: what comes after that would refer back to other bytes.
//   - What its answer has had is summed up as it is taken, or waits: then it leaves, or the client does. A complete answer ends with that sum.

// encoding sets what the header of cl's answer says of that (RFC 9110, sections 8.4 and 12.5.5).
func (cl *Client) encoding(h http.Header) {
	if cl.Route.Gzip {
		h.Add("Vary", "Accept-Encoding")
	}
	if cl.Gzip {
		h.Set("Content-Encoding", "gzip")
	}
}

// tell is what a client at c gets that is told words, whose answer so far has this sum. opens: its answer begins with them. closes: it ends with them, as complete.
func (c *cursor) tell(words []byte, sum *deflate.Sum, opens, closes bool) []byte {
	if c.traits&isDeflated == 0 {
		return words
	}
	var b []byte
	if opens {
		b = append(b, deflate.Header...)
	}
	if len(words) > 0 {
		c.traits &^= isInRun
		sum.Add(deflate.SumOf(words))
		b = deflate.AppendAlone(b, words)
	}
	if closes {
		b = deflate.AppendEnd(b, *sum)
	}
	return b
}

// completes reports whether a client at c that is told say last gets an answer that ends as a complete one does.
func (c *cursor) completes(say words) bool {
	return c.flags&isClosing != 0 && (say == sayEnd || c.end() == doFinish)
}

// chunked is p as one chunk.
func chunked(dst, p []byte) []byte {
	return stream.AppendChunk(dst, func(b []byte) []byte { return append(b, p...) })
}
