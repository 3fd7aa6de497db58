package history

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// Notes is what a store is too that keeps when things were seen last, over restarts and for all replicas. Notes that begin with [ tell of somebody: they
// are unreadable where they are kept, and go after [NotesTime], or when there are too many newer ones. The others are few, and stay.
type Notes interface {
	// Note keeps notes with their times, which are later than those that were kept of them before.
	Note(ctx context.Context, notes map[string]time.Time) error
	// Noted returns all notes.
	Noted(ctx context.Context) (map[string]time.Time, error)
}

// NotesTime is how long a note is kept.
const NotesTime = 400 * 24 * time.Hour

// Stale are those of notes that are to go, so that no more than most are left: the old ones, and the oldest.
func Stale(notes map[string]time.Time, most int) (stale []string) {
	var all []string
	for note := range notes {
		if passing(note) {
			all = append(all, note)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(notes[b].Compare(notes[a]), cmp.Compare(a, b)) })
	for i, note := range all {
		if i >= most || time.Since(notes[note]) > NotesTime {
			return all[i:]
		}
	}
	return nil
}

func passing(note string) bool { return strings.HasPrefix(note, "[") }

// notesFile holds the notes of a folder: a JSON object, each note with its time in Unix seconds. It is replaced as a whole. Who looks at it, or at a
// copy without the folder's key, reads nothing of those that tell of somebody: such a note is sealed, in base64 after [sealedNote].
const notesFile = "notes"

const sealedNote = "sealed "

// maxNotes bounds the notes that tell of somebody, each of which takes up to half a kilobyte.
const maxNotes = 8000

// Note is [Notes]'.
func (f *Folder) Note(ctx context.Context, notes map[string]time.Time) error {
	all, err := f.Noted(ctx)
	if err != nil {
		return err
	}
	for note, at := range notes {
		if at.After(all[note]) {
			all[note] = at
		}
	}
	for _, note := range Stale(all, maxNotes) {
		delete(all, note)
	}
	seconds, seal := map[string]int64{}, f.noteSeal()
	for note, at := range all {
		if passing(note) {
			note = sealedNote + base64.RawStdEncoding.EncodeToString(seal.Seal(nil, nil, []byte(note), nil))
		}
		seconds[note] = at.Unix()
	}
	text, err := json.Marshal(seconds)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path(notesFile+".new"), text, 0o600); err != nil {
		return plain(err)
	}
	if os.Rename(f.path(notesFile+".new"), f.path(notesFile)) != nil {
		return errors.New("the file notes cannot be replaced")
	}
	return nil
}

// noteSeal is what notes are sealed by.
func (f *Folder) noteSeal() cipher.AEAD {
	mac := hmac.New(sha256.New, f.key[:])
	mac.Write([]byte("notes"))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic(err) // the key has the right size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Noted is [Notes]'. A file that cannot be read as notes holds none, and a note that this folder's key has not sealed is none.
func (f *Folder) Noted(context.Context) (map[string]time.Time, error) {
	text, err := os.ReadFile(f.path(notesFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, plain(err)
	}
	all, seconds, seal := map[string]time.Time{}, map[string]int64{}, f.noteSeal()
	if json.Unmarshal(text, &seconds) != nil {
		return all, nil
	}
	for note, at := range seconds {
		if coded, sealed := strings.CutPrefix(note, sealedNote); sealed {
			data, err := base64.RawStdEncoding.DecodeString(coded)
			if err != nil {
				continue
			}
			if data, err = seal.Open(nil, nil, data, nil); err != nil {
				continue
			}
			note = string(data)
		}
		all[note] = time.Unix(at, 0)
	}
	for _, note := range Stale(all, maxNotes) {
		delete(all, note)
	}
	return all, nil
}
