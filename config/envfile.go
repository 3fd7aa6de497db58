package config

import (
	"errors"
	"flag"
	"fmt"
	"strings"
)

// ErrUsage is what the error of a command line that is off wraps.
var ErrUsage = errors.New("usage")

// Source is where a configuration comes from, which may be read again: the environment of the process, and files beneath it.
type Source struct {
	environ []string // without SSE_ENV_FILE
	option  string   // that names the files
	files   []string
}

// SourceOf takes -env-file out of args, wherever it stands, or else SSE_ENV_FILE out of environ. Its error wraps [ErrUsage], or is
// [flag.ErrHelp].
func SourceOf(args, environ []string) (rest []string, s Source, err error) {
	s.option = "SSE_ENV_FILE"
	for _, entry := range environ {
		if file, ok := strings.CutPrefix(entry, "SSE_ENV_FILE="); !ok {
			s.environ = append(s.environ, entry)
		} else if file != "" {
			s.files = []string{file}
		}
	}
	for i := 0; i < len(args); i++ {
		switch name, file, given := strings.Cut(args[i], "="); name {
		case "--env-file", "-env-file":
			if !given {
				if i++; i == len(args) {
					return nil, s, fmt.Errorf("%w: -env-file needs the name of a file", ErrUsage)
				}
				file = args[i]
			}
			if s.option == "SSE_ENV_FILE" { // which the command's own words replace
				s.option, s.files = "-env-file", nil
			}
			s.files = append(s.files, file)
		case "-h", "-help", "--help":
			return nil, s, flag.ErrHelp
		default:
			rest = append(rest, args[i])
		}
	}
	return rest, s, nil
}

// With is s with file in the place of its own.
func (s Source) With(file string) Source { return Source{s.environ, "-diff", []string{file}} }

// Environ reads the files, and overlays the process's environment with them. Its error wraps [ErrUsage].
func (s Source) Environ() ([]string, error) { return s.read(ReadFile) }

func (s Source) read(readFile func(string) ([]byte, error)) (environ []string, err error) {
	environ = s.environ
	for _, file := range s.files {
		data, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrUsage, s.option, err)
		}
		if environ, err = Overlay(environ, data); err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrUsage, file, err)
		}
	}
	return environ, nil
}

// Load reads the configuration. Its error is an *Error, or wraps [ErrUsage].
func (s Source) Load() (*Config, error) {
	c, _, err := s.load()
	return c, err
}

// load is Load, with what was seen of files.
func (s Source) load() (c *Config, saw sighted, err error) {
	l := loader{readFile: ReadFile, saw: sighted{}}
	environ, err := s.read(func(path string) ([]byte, error) {
		text, err := ReadFile(path)
		l.saw.note(path, text, err)
		return text, err
	})
	if err != nil {
		return nil, l.saw, err
	}
	if c, err = l.load(environ); err == nil {
		c.saw = l.saw
	}
	return c, l.saw, err
}

// Addresses is where a sidecar with this configuration listens: see the function of that name. Its error is an *Error, or wraps [ErrUsage].
func (s Source) Addresses() (public, admin string, err error) {
	environ, err := s.Environ()
	if err != nil {
		return "", "", err
	}
	return Addresses(environ, ReadFile)
}

// AdminToken is what the admin port of a sidecar with this configuration wants to be told, "" where that is nothing, or cannot be read.
func (s Source) AdminToken() string {
	environ, err := s.Environ()
	if err != nil {
		return ""
	}
	l := loader{readFile: ReadFile}
	global, _ := l.read(environ)
	return global["ADMIN_TOKEN"].text
}
