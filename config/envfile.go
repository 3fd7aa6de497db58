package config

import (
	"errors"
	"flag"
	"fmt"
	"strings"
)

// ErrUsage is what the error of a command line that is off wraps.
var ErrUsage = errors.New("usage")

// EnvFiles takes -env-file out of args, wherever it stands, or else SSE_ENV_FILE out of environ, and overlays environ with
// the file's content. Its error wraps [ErrUsage], or is [flag.ErrHelp].
func EnvFiles(args, environ []string) (rest, env []string, err error) {
	option, files := "SSE_ENV_FILE", []string(nil)
	for _, entry := range environ {
		if file, ok := strings.CutPrefix(entry, "SSE_ENV_FILE="); !ok {
			env = append(env, entry)
		} else if file != "" {
			files = []string{file}
		}
	}
	for i := 0; i < len(args); i++ {
		switch name, file, given := strings.Cut(args[i], "="); name {
		case "--env-file", "-env-file":
			if !given {
				if i++; i == len(args) {
					return nil, nil, fmt.Errorf("%w: -env-file needs the name of a file", ErrUsage)
				}
				file = args[i]
			}
			if option == "SSE_ENV_FILE" { // which the command's own words replace
				option, files = "-env-file", nil
			}
			files = append(files, file)
		case "-h", "-help", "--help":
			return nil, nil, flag.ErrHelp
		default:
			rest = append(rest, args[i])
		}
	}
	for _, file := range files {
		data, err := ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %v", ErrUsage, option, err)
		}
		if env, err = Overlay(env, data); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %v", ErrUsage, file, err)
		}
	}
	return rest, env, nil
}
