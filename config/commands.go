package config

import (
	"fmt"
	"strings"
)

// Command is one of the program's commands, as its help, the manual page and shells know it.
type Command struct {
	Name    string // "" serves
	Words   string // its arguments, as help shows them
	Meaning string
	Flags   []Flag
}

// Flag is a word of a command that begins with a dash.
type Flag struct {
	Name  string // with the dash
	Value string // what follows it: FILE, N, T, ...; "" nothing does
}

// Commands are all of them, in the order of help.
var Commands = []Command{
	{Words: "(no command)", Meaning: "serve, as the SSE_ variables configure it"},
	{"check", "[-live | -diff FILE]", "validate them; print the routes and which clients share an upstream connection; -live: connect each once; -diff: print what a reload would do if FILE were the env file",
		[]Flag{{"-live", ""}, {"-diff", "FILE"}}},
	{"tap", "ROUTE [-raw] [-n N] [-for T] [K=V ...]", "print a route's events without serving, until N came or T has passed; -raw: with what arrived, and what took it. K is path.NAME, query.NAME, header.NAME, cookie.NAME or auth.NAME",
		[]Flag{{"-raw", ""}, {"-n", "N"}, {"-for", "T"}}},
	{"compare", "ROUTE [-for T] [K=V ...]", "compare what an old client gets with the route's stream, of the sidecar that runs or of one run here, until T has passed; exit status 0: parity, 1: not. K as with tap",
		[]Flag{{"-for", "T"}}},
	{"learn", "[-o FILE] [-for T] [-probe] URL | FILE.har", "pass everything through to the service at URL, watch its clients, and at Ctrl-C or after T print the routes that could take the place of its WebSockets and polls, with an env file for them; -probe: ask the service which cookies matter to it. Or read what a browser has recorded",
		[]Flag{{"-o", "FILE"}, {"-for", "T"}, {"-probe", ""}}},
	{"demo", "[-replicas N]", "a small legacy service, the sidecar in front of it (or N that share a Redis), and a page that shows both", []Flag{{"-replicas", "N"}}},
	{"history", "verify DIR", "read the folder of SSE_HISTORY=file:DIR, and print what is in it, and what is damaged", nil},
	{"healthcheck", "[-ready]", "ask the admin port of a running sidecar; exit status 0 when it is healthy", []Flag{{"-ready", ""}}},
	{"drain", "", "have a running sidecar send its clients away, and wait until they have left: a preStop hook", nil},
	{"doctor", "[-idle 45s] [-json] [-insecure] URL", "ask the sidecar behind a public address for a stream, and tell what stands between and how to set it; exit status 1 when something should be mended",
		[]Flag{{"-idle", "T"}, {"-json", ""}, {"-insecure", ""}}},
	{"manual", "[man | bash | zsh | fish]", "print the manual page, or what a shell completes the program's words by", nil},
	{"version", "", "print the version, the revision it was built of, and with what", nil},
}

const summary = "Sidestream re-exposes a legacy service's WebSocket feeds and JSON endpoints as Server-Sent Events."

// Usage is the help.
func Usage() string {
	const column, width = 23, 150
	var b strings.Builder
	b.WriteString(summary + "\n\nusage: sidestream [-env-file FILE] [COMMAND]    (SSE_ENV_FILE=FILE does the same)\n\n")
	for _, c := range Commands {
		words := "  " + strings.TrimSpace(c.Name+" "+c.Words)
		if len(words) >= column {
			b.WriteString(words + "\n")
			words = ""
		}
		for _, line := range wrapped(c.Meaning, width-column) {
			fmt.Fprintf(&b, "%-*s%s\n", column, words, line)
			words = ""
		}
	}
	return b.String()
}

// Names are the commands' names, as a sentence lists them.
func Names() string {
	names := commandNames()
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// wrapped is text in lines of at most so many bytes, where its words allow that.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
