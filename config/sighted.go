package config

import "crypto/sha256"

// sighted is what files held when they were read, by their paths: the hash of their text, or the zero value where they could not be read.
type sighted map[string][sha256.Size]byte

// note remembers what reading a file came to. It does nothing without a map.
func (s sighted) note(path string, text []byte, err error) {
	if s != nil {
		s[path] = sight(text, err)
	}
}

func sight(text []byte, err error) (sum [sha256.Size]byte) {
	if err != nil {
		return sum
	}
	return sha256.Sum256(text)
}

// again is what the same files hold now.
func (s sighted) again(readFile func(string) ([]byte, error)) sighted {
	now := sighted{}
	for path := range s {
		text, err := readFile(path)
		now.note(path, text, err)
	}
	return now
}
