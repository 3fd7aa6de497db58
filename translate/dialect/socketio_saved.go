package dialect

import "sidestream/translate"

// maxSioSaved is how many of the last offsets are saved: whatever comes twice comes soon after.
const maxSioSaved = 256

// Save is, of each namespace, its name, what to resume, up to where, and the last offsets. There is nothing before the connection is
// ready: until then the session before counts.
func (s *socketio) Save() (saved []byte) {
	if !s.ready {
		return nil
	}
	for _, n := range s.spaces {
		var seen []byte
		order := n.now.seen.order
		for _, offset := range order[max(0, len(order)-maxSioSaved):] {
			seen = translate.AppendField(seen, offset)
		}
		for _, field := range []string{n.name, n.now.pid, n.now.offset, string(seen)} {
			saved = translate.AppendField(saved, field)
		}
	}
	if len(saved) > translate.MaxSaved {
		return nil
	}
	return saved
}

// Restore is Save's other half.
func (s *socketio) Restore(saved []byte) error {
	var spaces []*sioSpace
	for len(saved) > 0 {
		n := new(sioSpace)
		var seen []byte
		for _, into := range []*string{&n.name, &n.pid, &n.offset, nil} {
			field, rest, err := translate.CutField(saved)
			if err != nil {
				return err
			}
			if saved = rest; into != nil {
				*into = string(field)
				continue
			}
			seen = field
		}
		for len(seen) > 0 {
			offset, rest, err := translate.CutField(seen)
			if err != nil {
				return err
			}
			n.seen.add(string(offset))
			seen = rest
		}
		spaces = append(spaces, n)
	}
	s.spaces = spaces
	return nil
}
