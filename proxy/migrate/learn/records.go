package learn

import (
	"bytes"
	"encoding/json"
)

// separatorsKnown are what ends records where one message holds several, as SEPARATOR has it.
var separatorsKnown = []struct {
	byte byte
	text string
}{{0x1e, `\x1e`}, {'\n', `\n`}}

// records takes conversations apart whose messages hold several records each; separator is what ends these, "" where messages are records.
func records(all []*Conversation) (apart []*Conversation, separator string) {
	for _, s := range separatorsKnown {
		if !several(all, s.byte) {
			continue
		}
		for _, c := range all {
			inner := *c
			inner.Frames = split(c.Frames, s.byte)
			apart = append(apart, &inner)
		}
		return apart, s.text
	}
	return all, ""
}

// several reports whether messages of the service are JSON records that end in a separator, more than one in some.
func several(all []*Conversation, separator byte) bool {
	more := false
	for _, c := range all {
		for _, f := range c.Frames {
			if f.FromClient || f.Cut || f.Binary {
				continue
			}
			if at := bytes.IndexByte(f.Data, separator); at < 0 || separator == '\n' && at == len(f.Data)-1 {
				if !more && separator != '\n' {
					return false // each record ends in it
				}
				continue
			}
			parts := 0
			for part := range bytes.SplitSeq(f.Data, []byte{separator}) {
				if len(bytes.TrimSpace(part)) == 0 {
					continue
				}
				if !isObject(part) || !json.Valid(part) {
					return false
				}
				parts++
			}
			more = more || parts > 1 || separator == 0x1e && bytes.HasSuffix(f.Data, []byte{separator})
		}
	}
	return more
}

func split(frames []Frame, separator byte) (out []Frame) {
	for _, f := range frames {
		for part := range bytes.SplitSeq(f.Data, []byte{separator}) {
			if len(bytes.TrimSpace(part)) > 0 && len(out) < 2*maxFrames {
				one := f
				one.Data = part
				out = append(out, one)
			}
		}
	}
	return out
}
