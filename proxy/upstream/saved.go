// This file is what a source hands to the next process, so that it goes on where this one stopped. The rules:
//
//   - What is saved stands after the messages that are being emitted: they and it are written at once. It is asked for within emit.
//   - What is restored is no more than a hint. A cursor that the upstream does not know any more is its business as ever (RESET).
//   - Secrets are not saved: neither cookies nor what templates insert. What STATE has captured is, since that is its purpose.

package upstream

import (
	"crypto/sha256"
	"fmt"

	"sidestream/translate"
)

// savedVersion begins what is saved; another one is not read.
const savedVersion = "1"

// emptySave is the size of what a session saves that has nothing to go on with.
const emptySave = 2

func save(fields ...string) (saved []byte) {
	saved = translate.AppendField(saved, savedVersion)
	for _, f := range fields {
		saved = translate.AppendField(saved, f)
	}
	if len(saved) > translate.MaxSaved {
		return []byte{} // what was saved before stands for another place
	}
	return saved
}

func restore(saved []byte, want int) ([]string, error) {
	fields, err := translate.CutFields(saved, want+1)
	if err != nil {
		return nil, err
	}
	if fields[0] != savedVersion {
		return nil, fmt.Errorf("%w: it is of another version", translate.ErrSaved)
	}
	return fields[1:], nil
}

// begun reports whether the session knows something to go on with.
func (s *subscription) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.session.Save()) > emptySave
}

// Save is the state and what the dialect saves.
func (s *subscription) Save() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session.HandOn()
	if saved := s.session.Save(); len(saved) > 0 {
		return save(string(saved))
	}
	return nil
}

// Restore is Save's other half.
func (s *subscription) Restore(saved, _ []byte) error {
	fields, err := restore(saved, 1)
	if err != nil {
		return err
	}
	return s.session.Restore([]byte(fields[0]))
}

// Save is where the next request goes on.
func (f *follow) Save() []byte {
	return save(f.ahead.cursor, f.ahead.lastID)
}

// Restore is Save's other half.
func (f *follow) Restore(saved, _ []byte) error {
	fields, err := restore(saved, 2)
	if err != nil || len(fields[0]) > maxCursor || len(fields[1]) > maxCursor {
		return translate.ErrSaved
	}
	f.cursor, f.lastID = fields[0], headerSafe(fields[1])
	f.ahead = resumePoint{f.cursor, f.lastID}
	return nil
}

// Save is the cursor, what the last answer was translated to, and of a list its last page. A patched document is what all its events come
// to, which is kept in any case.
func (p *poll) Save() []byte {
	if p.q.Route.settings.Mode == ModePatch {
		return save("", "", "")
	}
	last := ""
	if p.answered {
		last = string(p.last[:])
	}
	var page []byte
	for _, k := range p.items.page {
		page = append(page, k[:]...)
	}
	return save(p.ahead, last, string(page))
}

// Restore is Save's other half. past is the document of MODE=patch.
func (p *poll) Restore(saved, past []byte) error {
	fields, err := restore(saved, 3)
	if err != nil || len(fields[0]) > maxCursor || fields[1] != "" && len(fields[1]) != len(p.last) || len(fields[2])%sha256.Size != 0 {
		return translate.ErrSaved
	}
	if p.patcher != nil {
		if err := p.patcher.Restore(past); err != nil {
			return err
		}
	}
	if fields[1] != "" {
		p.answered = true
		copy(p.last[:], fields[1])
	}
	var page []itemKey
	for keys := fields[2]; keys != ""; keys = keys[sha256.Size:] {
		page = append(page, itemKey([]byte(keys[:sha256.Size])))
	}
	if len(page) > 0 {
		p.items.turn(page)
	}
	p.cursor, p.ahead, p.heard = fields[0], fields[0], true
	return nil
}
