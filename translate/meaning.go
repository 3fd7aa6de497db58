package translate

import (
	"errors"
	"strconv"
	"strings"
)

// What the end of a connection, or an answer, can mean (CLOSE, STATUS).
const (
	MeansRetry    = "retry"
	MeansRefused  = "refused"
	MeansFinished = "finished"
	MeansNew      = "new" // forget what was to be gone on from, then retry
)

// Meaning is one of the Means constants.
type Meaning struct {
	What   string
	Status int // that refused names, 400 to 499; 0 none
}

// ParseMeaning reads a meaning such as "retry" or "refused:401". The error tells what to write instead.
func ParseMeaning(text string) (m Meaning, err error) {
	what, status, _ := strings.Cut(strings.TrimSpace(text), ":")
	m.What = what
	switch what {
	case MeansRefused:
		if status != "" {
			if m.Status, err = strconv.Atoi(status); err != nil || m.Status < 400 || m.Status > 499 {
				return m, errors.New("refuses with a status that is not a refusal; write 400 to 499, such as refused:401")
			}
		}
		return m, nil
	case MeansRetry, MeansFinished, MeansNew:
		if status != "" {
			return m, errors.New("has a status, which only refused can have")
		}
		return m, nil
	}
	return m, errors.New("is none of retry, refused, finished, new; write one of them after the = ")
}
