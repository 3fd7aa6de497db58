package config

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Manual prints the manual page, or a completion script for a shell. words are the command's arguments: man, bash, zsh or fish; none means man. It fails with
// [ErrUsage] for any others.
func Manual(words []string, version string, w io.Writer) error {
	kind := "man"
	if len(words) > 0 {
		kind = words[0]
	}
	text, ok := map[string]func() string{"man": func() string { return manPage(version) }, "bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[kind]
	if !ok || len(words) > 1 {
		return fmt.Errorf("%w: manual prints man, bash, zsh or fish, one at a time", ErrUsage)
	}
	_, err := io.WriteString(w, text())
	return err
}

// manPage is the manual page, in the macros of man(7).
func manPage(version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH SIDESTREAM 1 \"\" \"sidestream %s\" \"User commands\"\n.SH NAME\nsidestream \\- events for browsers in front of a legacy service\n", roff(version))
	b.WriteString(".SH SYNOPSIS\n.B sidestream\n.RI [ \\-env\\-file \" FILE\" ]\n.RI [ COMMAND ]\n.SH DESCRIPTION\n" + roff(summary) + "\nIt is configured by environment variables, which may stand in the file that\n.B \\-env\\-file\nor\n.B SSE_ENV_FILE\nnames.\n.SH COMMANDS\n")
	for _, c := range Commands {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(c.Name+" "+c.Words)), roff(c.Meaning))
	}
	b.WriteString(".SH ENVIRONMENT\nA variable whose name ends in _FILE is read from the file that it names. A setting of a route is\n.BI SSE_ROUTE_ NAME _ SETTING\\fR;\nwhere it says so, \n.BI SSE_ SETTING\nis for all routes that have none of their own.\n")
	for _, v := range Variables() {
		name := v.Name
		if v.Route {
			name = routePrefix + "NAME_" + v.Name
		}
		about := "Default: " + v.Default + "."
		if v.Route && v.Global {
			about += " For all routes: " + prefix + v.Name + "."
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s. %s\n", roff(name), roff(withoutLinks(v.Meaning)), roff(about))
	}
	b.WriteString(".SH EXIT STATUS\n0 where all was well, 1 where something failed, 2 where the command's words or the environment were wrong.\n.SH SIGNALS\nSIGTERM and SIGINT drain and end the program; a second one ends it at once. SIGHUP reads the configuration again.\n")
	return b.String()
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// withoutLinks is text of the documentation without what its links lead to.
func withoutLinks(text string) string { return link.ReplaceAllString(text, "$1") }

// roff is text as man(7) shows it: a dash is a dash, and nothing at the beginning of a line is a macro.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// bashCompletion completes in bash: commands, their flags, files.
func bashCompletion() string {
	var cases strings.Builder
	for _, c := range Commands {
		if len(c.Flags) > 0 {
			fmt.Fprintf(&cases, "    %s) words=\"%s\" ;;\n", c.Name, strings.Join(c.flags(), " "))
		}
	}
	return `# bash completion for sidestream
_sidestream() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in
    -env-file) ((i++)) ;;
    -*) ;;
    *) command="${COMP_WORDS[i]}"; break ;;
    esac
  done
  case "$prev" in
  -env-file | -diff | -o) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  case "$command" in
    "") words="-env-file ` + strings.Join(commandNames(), " ") + `" ;;
` + cases.String() + `    manual) words="man bash zsh fish" ;;
    history) words="verify" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [ "${#COMPREPLY[@]}" -eq 0 ]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}
complete -o filenames -F _sidestream sidestream
`
}

// zshCompletion completes in zsh.
func zshCompletion() string {
	var commands, cases strings.Builder
	for _, c := range Commands {
		if c.Name == "" {
			continue
		}
		fmt.Fprintf(&commands, "    %s\n", shellWord(c.Name+":"+strings.ReplaceAll(firstWords(c.Meaning), ":", `\:`)))
		if len(c.Flags) > 0 {
			fmt.Fprintf(&cases, "    %s) _arguments", c.Name)
			for _, f := range c.Flags {
				fmt.Fprintf(&cases, " %s", shellWord(f.Name+f.zsh()))
			}
			cases.WriteString(" '*:file:_files' ;;\n")
		}
	}
	return `#compdef sidestream
_sidestream() {
  local -a commands
  commands=(
` + commands.String() + `  )
  _arguments -C '-env-file[the env file]:file:_files' '1:command:->command' '*::word:->words'
  case "$state" in
  command) _describe command commands ;;
  words)
    case "$line[1]" in
` + cases.String() + `    manual) _values form man bash zsh fish ;;
    history) _values word verify ;;
    *) _files ;;
    esac ;;
  esac
}
_sidestream "$@"
`
}

func (f Flag) zsh() string {
	switch f.Value {
	case "":
		return "[]"
	case "FILE":
		return "[]:file:_files"
	}
	return "[]:" + f.Value + ":"
}

// fishCompletion completes in fish.
func fishCompletion() string {
	var b strings.Builder
	b.WriteString("# fish completion for sidestream\ncomplete -c sidestream -o env-file -r -d 'the env file'\n")
	for _, c := range Commands {
		if c.Name == "" {
			continue
		}
		// __fish_use_subcommand would take the env file for the command.
		fmt.Fprintf(&b, "complete -c sidestream -f -n 'not __fish_seen_subcommand_from %s' -a %s -d %s\n", strings.Join(commandNames(), " "), c.Name, shellWord(firstWords(c.Meaning)))
		for _, f := range c.Flags {
			takes := ""
			if f.Value != "" {
				takes = " -r"
			}
			fmt.Fprintf(&b, "complete -c sidestream -n '__fish_seen_subcommand_from %s' -o %s%s\n", c.Name, f.Name[1:], takes)
		}
	}
	b.WriteString("complete -c sidestream -n '__fish_seen_subcommand_from manual' -f -a 'man bash zsh fish'\ncomplete -c sidestream -n '__fish_seen_subcommand_from history' -f -a verify\n")
	return b.String()
}

func commandNames() (names []string) {
	for _, c := range Commands {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

func (c Command) flags() (names []string) {
	for _, f := range c.Flags {
		names = append(names, f.Name)
	}
	return names
}

// firstWords are a meaning's, up to where it goes into details.
func firstWords(meaning string) string {
	if at := strings.IndexAny(meaning, ";:"); at > 0 {
		meaning = meaning[:at]
	}
	return meaning
}

// shellWord is text as one word of a shell.
func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
