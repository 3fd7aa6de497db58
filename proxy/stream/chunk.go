package stream

import (
	"bytes"
	"strconv"
)

// ChunkEnd is what ends a chunk of an HTTP/1.1 body, and LastChunk the body (RFC 9112, section 7.1).
const (
	ChunkEnd  = "\r\n"
	LastChunk = "0\r\n\r\n"
)

// chunkFront is room for the size of a chunk of less than 4 GiB, and its line end.
const chunkFront = 10

// AppendChunk appends what f appends as one chunk of a body (RFC 9112, section 7.1).
func AppendChunk(dst []byte, f func([]byte) []byte) []byte {
	var room [chunkFront]byte
	start := len(dst)
	begin := start + chunkFront
	all := f(append(dst, room[:]...))
	line := append(strconv.AppendUint(room[:0], uint64(len(all)-begin), 16), "\r\n"...)
	front := copy(all[start:], line)
	n := copy(all[start+front:], all[begin:]) // so that chunks stand without a gap, and several can be written as one
	return append(all[:start+front+n], ChunkEnd...)
}

// inChunk is what is in a chunk of [AppendChunk]'s.
func inChunk(chunk []byte) []byte {
	return chunk[bytes.IndexByte(chunk, '\n')+1 : len(chunk)-len(ChunkEnd)]
}
