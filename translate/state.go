// This file is what a subscription remembers of its messages (STATE): session ids, sequence numbers, addresses to resume
// at. The rules:
//
//   - Each object that the program yields is merged into the state; a null value deletes the name.
//   - The state outlives connections and is no part of a stream's identity.
//   - Its values come from upstream, so they are hostile: bounded here, and escaped wherever a template inserts them.

package translate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Bounds on the state of one stream.
const (
	maxStateNames = 64
	maxStateName  = 128     // bytes
	maxStateValue = 4 << 10 // bytes of a value as it is written
)

// State is what STATE has captured for one stream. The zero value is empty. Programs may still read a map after the state has
// changed: each change makes a new one.
type State struct {
	values map[string]any
	texts  map[string]string // as templates insert them
}

// Text returns what {state.name} stands for, "" when nothing is known.
func (s *State) Text(name string) string { return s.texts[name] }

// JSON is all of it as an object, as [StateName] asks for.
func (s *State) JSON() string {
	text, err := Written(stateValue(s.values))
	if err != nil { // its values were written when they were taken
		return "{}"
	}
	return string(text)
}

// Len is the number of names that have a value.
func (s *State) Len() int { return len(s.values) }

// Forget makes s empty.
func (s *State) Forget() { *s = State{} }

// Take runs c over m and merges each object that it yields. Its error is a *[ProgramError], when c failed or when something was
// over a bound: that is left out, and the rest counts. No error holds a value.
func (s *State) Take(ctx context.Context, c *Code, m Message) error {
	in, err := m.input(false)
	if err != nil {
		return err
	}
	var over error
	err = c.each(ctx, in.value, in.known, func(v any) error {
		if v == nil {
			return nil
		}
		object, ok := v.(map[string]any)
		if !ok {
			return errors.New("yields something else than an object")
		}
		over = errors.Join(over, s.merge(object))
		return nil
	})
	if err == nil && over != nil {
		err = &ProgramError{c.setting, errOverState}
	}
	return err
}

var errOverState = fmt.Errorf("a state of more than %d names or with a value of more than %d bytes is not kept", maxStateNames, maxStateValue)

func (s *State) merge(object map[string]any) error {
	values, texts := maps.Clone(s.values), maps.Clone(s.texts)
	if values == nil {
		values, texts = map[string]any{}, map[string]string{}
	}
	for name, v := range object {
		if v == nil {
			delete(values, name)
			delete(texts, name)
		}
	}
	var over error
	for _, name := range slices.Sorted(maps.Keys(object)) {
		v := object[name]
		if v == nil {
			continue
		}
		text, err := Written(v)
		if err != nil {
			return err
		}
		if _, known := values[name]; len(text) > maxStateValue || len(name) > maxStateName || !known && len(values) >= maxStateNames {
			over = errOverState
			continue
		}
		values[name], texts[name] = v, string(text)
	}
	s.values, s.texts = values, texts
	return over
}

// CatchUp has s, which began as begun, know what other has come to know since it was begun too, but for names that s has changed itself.
func (s *State) CatchUp(begun, other State) {
	names := maps.Clone(begun.texts)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, other.texts)
	news := map[string]any{}
	for name := range names {
		was, knew := begun.texts[name]
		mine, known := s.texts[name]
		theirs, know := other.texts[name]
		if knew == known && was == mine && (knew != know || was != theirs) {
			news[name] = other.values[name] // nil deletes
		}
	}
	_ = s.merge(news) // what is over a bound is left out
}
