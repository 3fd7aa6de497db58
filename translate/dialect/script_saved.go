package dialect

import "sidestream/translate"

// Save is the state, which may be empty again, and what the dialect saves.
func (s *scripted) Save() []byte {
	state, inner := s.script.State.Save(), s.Session.Save()
	if s.script.Capture == nil && inner == nil {
		return nil
	}
	return translate.AppendField(translate.AppendField(nil, state), inner)
}

// Restore is Save's other half.
func (s *scripted) Restore(saved []byte) error {
	fields, err := translate.CutFields(saved, 2)
	if err != nil {
		return err
	}
	if fields[1] != "" {
		if err := s.Session.Restore([]byte(fields[1])); err != nil {
			return err
		}
	}
	return s.script.State.Restore([]byte(fields[0]))
}
