// Package config turns the environment into a [Config], whose settings are those of the packages that use them. It is the only package
// that reads the environment, and nothing imports it but main.
//
// # Files
//
//   - settings.go: the table. Names, defaults, bounds and meanings of all variables stand there and nowhere else; README.md's tables
//     are made from it. types.go: the kinds of values, and how each is read.
//   - envfile.go, overlay.go: -env-file and SSE_ENV_FILE. names.go: which names are ours, and what an unknown one was meant to be.
//   - load.go: reading, files, bounds. global.go, tunnel.go, route.go, path.go: what becomes of the values.
//   - check.go, checkdiff.go: what `sidestream check` prints. problem.go: all that is wrong, at once.
//   - diff.go: what differs between two configurations. reload.go, sighted.go: how a sidecar that runs comes to go by another one.
//
// # Rules
//
//   - Every problem names the variable and the fix, and all are reported together. None shows what may be a secret: no text of a
//     file, no path that was meant to be one, no part of a URL that may hold a password.
//   - The syntax of templates, jq and dialects belongs to package upstream and those below it: this package passes texts on, and
//     reports what they say about them.
//   - A setting that would have no effect is a problem, not silence.
//
// README.md beside this file tells how to add a setting.
package config
