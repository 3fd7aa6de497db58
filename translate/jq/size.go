package jq

import (
	"encoding/json"
	"math/big"
)

// size adds up what values come to when they are written down or gone through: a part that is there twice counts twice.
type size struct {
	bytes int
	most  int // where it stops
	deep  bool
	long  bool // a number is in it that is not to be counted with
}

// add reports whether v, at depth, is within the bounds. It stops where they end.
func (s *size) add(v any, depth int) bool {
	s.bytes += 16
	switch v := v.(type) {
	case string:
		s.bytes += len(v)
	case json.Number:
		s.bytes += len(v)
		s.long = s.long || len(v) > maxDigits
	case *big.Int:
		s.bytes += v.BitLen() / 3
		s.long = s.long || v.BitLen() > maxDigits*10/3
	case []any:
		if s.deep = depth >= maxDepth; s.deep {
			return false
		}
		for _, v := range v {
			if !s.add(v, depth+1) {
				return false
			}
		}
	case map[string]any:
		if s.deep = depth >= maxDepth; s.deep {
			return false
		}
		for name, v := range v {
			s.bytes += len(name) + 16
			if !s.add(v, depth+1) {
				return false
			}
		}
	}
	return s.bytes <= s.most
}

// err is why add was false.
func (s *size) err() error {
	if s.deep {
		return ErrDepth
	}
	return ErrMemory
}

// long reports whether v is a number that is not to be counted with.
func long(v any) bool {
	switch v := v.(type) {
	case json.Number:
		return len(v) > maxDigits
	case *big.Int:
		return v.BitLen() > maxDigits*10/3
	}
	return false
}

// shallow is what a copy of v takes, without what it refers to.
func shallow(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) + 16
	case []any:
		return 16*len(v) + 24
	case map[string]any:
		return mapSize(len(v))
	}
	return 16
}
