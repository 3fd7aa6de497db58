package translate

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"sidestream/translate/jq"
)

// MaxSaved bounds what a session or a source keeps for the next process, in bytes.
const MaxSaved = 64 << 10

// ErrSaved is the error of what was saved and cannot be read.
var ErrSaved = errors.New("what was saved does not read")

// AppendField appends one field of what is saved, so that [CutField] finds it again.
func AppendField[T string | []byte](dst []byte, field T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(field))), field...)
}

// CutField takes the first field off saved. It fails with [ErrSaved] where there is none.
func CutField(saved []byte) (field, rest []byte, err error) {
	length, n := binary.Uvarint(saved)
	if n <= 0 || length > uint64(len(saved)-n) {
		return nil, nil, ErrSaved
	}
	end := n + int(length)
	return saved[n:end:end], saved[end:], nil
}

// CutFields takes saved apart into its fields, which must be want.
func CutFields(saved []byte, want int) (fields []string, err error) {
	if fields, err = AllFields(saved); err != nil || len(fields) != want {
		return nil, ErrSaved
	}
	return fields, nil
}

// AllFields takes saved apart into its fields, however many there are. It fails with [ErrSaved] where something is left over.
func AllFields(saved []byte) (fields []string, err error) {
	for len(saved) > 0 {
		var field []byte
		if field, saved, err = CutField(saved); err != nil {
			return nil, err
		}
		fields = append(fields, string(field))
	}
	return fields, nil
}

// Save returns what [State.Restore] takes: names and values as JSON, in order of the names (strings too).
func (s *State) Save() (saved []byte) {
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if text, err := jq.Marshal(s.values[name]); err == nil {
			saved = AppendField(AppendField(saved, name), text)
		}
	}
	return saved
}

// Restore makes s what was saved. It fails with [ErrSaved], and leaves s empty.
func (s *State) Restore(saved []byte) error {
	s.Forget()
	object := map[string]any{}
	for len(saved) > 0 {
		name, rest, err := CutField(saved)
		if err != nil {
			return err
		}
		text, rest, err := CutField(rest)
		if err != nil {
			return err
		}
		value, err := ParseJSON(text)
		if err != nil {
			return ErrSaved
		}
		object[string(name)], saved = value, rest
	}
	if s.merge(object) != nil {
		s.Forget()
		return ErrSaved
	}
	return nil
}
