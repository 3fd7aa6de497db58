// This file puts a Socket.IO event's attachments back where the JSON has placeholders for them.

package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// putBack puts attachments, as JSON strings, where data has placeholders for them. Each may have one place only: with more, a
// small packet could become a large event.
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

// placeholders finds the placeholders in valid JSON, in order, whatever the order of their fields and the blanks in them.
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
					spots = spots[:len(spots)-1] // what is inside is replaced with it
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
