// This file is the packets of Socket.IO (see socketio.go), as text after Engine.IO's type:
//
//	<kind>[<attachments>-][<namespace>,][<ack id>][<JSON>]
//
// A namespace begins with "/" and ends at the comma or the packet's end. An attachment's place in the JSON is held by
// {"_placeholder":true,"num":0}.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// The kinds of packets.
const (
	sioConnect     = '0'
	sioDisconnect  = '1'
	sioEvent       = '2'
	sioAck         = '3'
	sioRefused     = '4'
	sioBinaryEvent = '5'
	sioBinaryAck   = '6'
)

const maxSioID = 20 // digits of an ack id

type sioPacket struct {
	kind        byte
	attachments int
	space       string
	id          string // digits; "" wants no answer
	data        []byte // JSON, not checked; of the frame
}

var errSioPacket = errors.New("the server sent something that is not a Socket.IO packet")

func parseSioPacket(data []byte) (p sioPacket, err error) {
	if len(data) == 0 || data[0] < sioConnect || data[0] > sioBinaryAck {
		return p, errSioPacket
	}
	p.kind, p.space, data = data[0], "/", data[1:]
	if p.kind == sioBinaryEvent || p.kind == sioBinaryAck {
		number, rest, found := bytes.Cut(data[:min(len(data), 11)], []byte("-"))
		n, err := strconv.ParseUint(string(number), 10, 31)
		if !found || err != nil {
			return p, errSioPacket
		}
		p.attachments, data = int(n), data[len(data[:min(len(data), 11)])-len(rest):]
	}
	if len(data) > 0 && data[0] == '/' {
		name, rest, _ := bytes.Cut(data, []byte(","))
		name, _, _ = bytes.Cut(name, []byte("?")) // old servers of v2 repeat the query
		p.space, data = string(name), rest
	}
	digits := 0
	for digits < len(data) && data[digits] >= '0' && data[digits] <= '9' {
		digits++
	}
	if digits > maxSioID {
		return p, errSioPacket
	}
	p.id, p.data = string(data[:digits]), data[digits:]
	return p, nil
}

// event takes an event's payload apart: its name and its arguments.
func (p *sioPacket) event() (name string, args [][]byte, err error) {
	list, err := elements(p.data)
	if err != nil || len(list) == 0 {
		return "", nil, errSioPacket
	}
	switch first := list[0]; {
	case first[0] == '"':
		err = json.Unmarshal(first, &name)
	case first[0] == '-' || first[0] >= '0' && first[0] <= '9':
		name = string(first)
	default:
		err = errSioPacket
	}
	return name, list[1:], err
}

// elements returns the elements of a JSON array as they are written in it.
func elements(array []byte) (list [][]byte, err error) {
	array = bytes.TrimSpace(array)
	if len(array) == 0 || array[0] != '[' || !json.Valid(array) {
		return nil, errSioPacket
	}
	inside := array[1 : len(array)-1]
	start, depth, text := 0, 0, false
	for i := 0; i < len(inside); i++ {
		switch c := inside[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			list = append(list, bytes.TrimSpace(inside[start:i]))
			start = i + 1
		}
	}
	if last := bytes.TrimSpace(inside[start:]); len(last) > 0 {
		list = append(list, last)
	}
	return list, nil
}

// joined is the one argument, or the array of them.
func joined(args [][]byte) []byte {
	if len(args) == 1 {
		return args[0]
	}
	all := append([]byte{'['}, bytes.Join(args, []byte(","))...)
	return append(all, ']')
}

// sioOffset reports whether an argument may be an offset of connection state recovery, and returns it.
func sioOffset(arg []byte) (string, bool) {
	var offset string
	if arg[0] != '"' || len(arg) > maxSioResume || json.Unmarshal(arg, &offset) != nil || offset == "" {
		return "", false
	}
	for _, c := range []byte(offset) {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return offset, true
}
