package h2

import (
	"encoding/binary"
	"math"
)

// HTTP/2's frames and what is used of them (section 6).
const (
	frameData = iota
	frameHeaders
	_
	frameReset
	frameSettings
	_
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	headSize       = 9
	framePayload   = 16384 // what each client takes in one
	firstWindow    = 65535 // of a connection, and of a stream unless the client says otherwise
	largestWindow  = math.MaxInt32
	settingTable   = 1 // SETTINGS_HEADER_TABLE_SIZE (section 6.5.2)
	settingStreams = 3 // SETTINGS_MAX_CONCURRENT_STREAMS
	settingWindow  = 4 // SETTINGS_INITIAL_WINDOW_SIZE
	flowError      = 3 // FLOW_CONTROL_ERROR (section 7)
	internalError  = 2 // what net/http resets the stream of an aborted handler with
)

// Preface is what a client says first (section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// head is that of a frame (section 4.1).
type head struct {
	size        int
	kind, flags byte
	stream      uint32
}

func readHead(p []byte) head {
	return head{int(p[0])<<16 | int(p[1])<<8 | int(p[2]), p[3], p[4], binary.BigEndian.Uint32(p[5:]) & math.MaxInt32}
}

// readWhole returns the first frame of p and its size, with it the frames that go on with a head and between which
// nothing else may come (section 6.10). 0: p has not all of it.
func readWhole(p []byte) (first head, size int) {
	for begin := true; ; begin = false {
		if len(p) < size+headSize {
			return first, 0
		}
		f := readHead(p[size:])
		if size += headSize + f.size; len(p) < size {
			return first, 0
		}
		if begin {
			first = f
		}
		if first.kind != frameHeaders || f.flags&flagEndHeaders != 0 {
			return first, size
		}
	}
}

func (f head) append(dst []byte) []byte {
	dst = append(dst, byte(f.size>>16), byte(f.size>>8), byte(f.size), f.kind, f.flags)
	return binary.BigEndian.AppendUint32(dst, f.stream)
}
