package history

import (
	"os"
	"strings"
)

// This file is about events that clients were given and the folder does not have, since the disk was full, or a file is damaged. The rules:
//
//   - A stream whose events could not be written owes them. It is asked for them again once a second, and opened as damaged, until some of its events are written:
//     these begin with what it owes, or with a gap.
//   - While writing fails, or something is owed of which no record tells, the file stale says so. The next process takes every stream for one that owes, as it does
//     where a file is damaged, and writes that down before anything else, for each stream: it may end before they are opened.

// staleFile is as long as what is written into it, so that writing takes no room.
const staleFile = "stale"

// readStale notes how the last process ended.
func (f *Folder) readStale() error {
	was, err := os.ReadFile(f.path(staleFile))
	if f.stale = err == nil && strings.HasPrefix(string(was), "yes"); f.stale {
		return nil
	}
	return os.WriteFile(f.path(staleFile), []byte("no \n"), 0o600)
}

// mark brings the file stale up to date. mu is held, or nobody else has the folder yet.
func (f *Folder) mark() {
	stale := f.failing || f.unnoted > 0
	if stale == f.stale {
		return
	}
	f.stale = stale
	file, err := os.OpenFile(f.path(staleFile), os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer file.Close()
	text := "no \n"
	if stale {
		text = "yes\n"
	}
	file.WriteAt([]byte(text), 0)
	file.Sync()
}

// owe notes that clients may have been given events of e that it does not have.
func (f *Folder) owe(e *entry) {
	if !e.owes {
		e.owes = true
		f.owing++
		f.unnoted++
	}
}

// pay notes that e has them, or tells of them.
func (f *Folder) pay(e *entry) {
	if !e.owes {
		return
	}
	if e.owed.segment == nil {
		f.unnoted--
	}
	f.owing--
	e.owed.free()
	e.owes, e.owed = false, ref{}
}

// noteOwed writes down which streams owe. Where that fails the file stale says it.
func (f *Folder) noteOwed() error {
	s := f.lastSegment()
	w := writing{base: s.size, segment: s}
	owed := map[*entry]ref{}
	for _, e := range f.streams {
		if e.owes && e.owed.segment == nil {
			w.add(func(b []byte) []byte { return appendDefine(b, e.number, e.name, e.epoch, e.born) })
			owed[e] = w.add(func(b []byte) []byte { return appendBlob(b, kindOwes, e.number, e.last, nil) })
		}
	}
	if len(owed) > 0 && f.write(&w) == nil && (f.Sync < 0 || f.current.Sync() == nil) {
		for e, where := range owed {
			replace(&e.owed, where)
			s.defined[e] = true
			f.unnoted--
		}
	}
	f.mark()
	return nil
}

// collect has the streams that owe events keep them again.
func (f *Folder) collect() {
	f.mu.Lock()
	var owing []Follower
	if f.owing > 0 {
		for _, e := range f.streams {
			if e.owes && e.open != nil {
				owing = append(owing, e.open)
			}
		}
	}
	f.mu.Unlock()
	for _, one := range owing {
		one.Retry(0)
	}
}
