// This file is the packets of Socket.IO (see socketio.go), as text behind Engine.IO's type:
//
//	<kind>[<attachments>-][<namespace>,][<ack id>][<JSON>]
//
// A namespace begins with "/" and ends at the comma or the packet's end. An attachment's place in the JSON is held by
// {"_placeholder":true,"num":0}.

package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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

var errSioPacket = errors.New("the server sent what is no Socket.IO packet")

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

// elements returns those of a JSON array as they stand in it.
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

// sioOffset says whether an argument can be an offset of connection state recovery.
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

// putBack puts attachments, as JSON strings, where data has placeholders for them. Each has one place: more would let a
// small packet become a large event.
func putBack(data []byte, parts [][]byte, binary string) ([]byte, error) {
	spots, err := placeholders(data)
	if err != nil {
		return nil, err
	}
	var out []byte
	end := 0
	used := make([]bool, len(parts))
	for _, spot := range spots {
		if spot.num >= len(parts) || used[spot.num] {
			return nil, errors.New("the server sent a placeholder for no attachment, or two for one")
		}
		used[spot.num] = true
		part := string(parts[spot.num])
		if binary != BinaryText {
			part = base64.StdEncoding.EncodeToString(parts[spot.num])
		}
		out = append(append(out, data[end:spot.start]...), jsonString(part)...)
		end = spot.end
	}
	return append(out, data[end:]...), nil
}

// sioSpot is where a placeholder stands.
type sioSpot struct{ start, end, num int }

// placeholders finds those of valid JSON, in order, whatever the order and the blanks in them.
func placeholders(data []byte) (spots []sioSpot, err error) {
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	type object struct {
		start  int
		array  bool
		key    *string // of the value to come; nil: a key comes
		marked bool    // "_placeholder" is true
		num    int     // -1 none
	}
	var open []object
	for {
		token, err := in.Token()
		if err != nil {
			break // the end, as data is valid
		}
		at := int(in.InputOffset())
		var top *object
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		switch delim, _ := token.(json.Delim); {
		case delim == '{' || delim == '[':
			if top != nil {
				top.key = nil
			}
			open = append(open, object{start: at - 1, array: delim == '[', num: -1})
		case delim == '}' || delim == ']':
			if top.marked && top.num >= 0 {
				for len(spots) > 0 && spots[len(spots)-1].start > top.start {
					spots = spots[:len(spots)-1] // what is inside goes with it
				}
				spots = append(spots, sioSpot{top.start, at, top.num})
			}
			open = open[:len(open)-1]
		case top == nil || top.array:
		case top.key == nil:
			key := token.(string)
			top.key = &key
		default:
			switch value := token.(type) {
			case bool:
				top.marked = top.marked || value && *top.key == "_placeholder"
			case json.Number:
				if n, err := strconv.ParseUint(value.String(), 10, 31); err == nil && *top.key == "num" {
					top.num = int(n)
				}
			}
			top.key = nil
		}
	}
	if len(spots) > maxSioAttachments {
		return nil, fmt.Errorf("the server sent more than %d placeholders", maxSioAttachments)
	}
	return spots, nil
}

// sioVerdict finds the HTTP status and the words of a refusal: {"message","data"}, or what v2 has of them.
func sioVerdict(payload []byte) (status int, text string) {
	var refusal struct {
		Message string
		Data    json.RawMessage
	}
	if json.Unmarshal(payload, &refusal) != nil {
		json.Unmarshal(payload, &refusal.Message) // v2, without data
	}
	for _, object := range [][]byte{refusal.Data, payload} {
		var said struct{ Status, StatusCode, Code json.RawMessage }
		json.Unmarshal(object, &said) // v2 may send a text instead
		for _, number := range []json.RawMessage{said.Status, said.StatusCode, said.Code} {
			if n, err := strconv.Atoi(string(number)); err == nil && n >= 400 && n <= 599 {
				return n, refusal.Message
			}
		}
	}
	if refusal.Message == "Invalid namespace" {
		return http.StatusNotFound, refusal.Message
	}
	words := strings.ToLower(refusal.Message)
	for _, word := range []string{"unauthorized", "unauthenticated", "not authorized", "authentication"} {
		if strings.Contains(words, word) {
			return http.StatusUnauthorized, refusal.Message
		}
	}
	return http.StatusForbidden, refusal.Message
}
