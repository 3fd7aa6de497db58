package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"sidestream/proxy/outbound"
	"sidestream/proxy/upstream"
)

// maxFile bounds what is read for one variable, so that a path such as /dev/zero is an error and not a hang.
const maxFile = 1 << 20

// ReadFile is os.ReadFile for Load. It fails with the file's error, or when the file is larger than 1 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return text, err
}

// Load reads the configuration from environ, which has the shape of os.Environ. It reads the files that variables
// name by readFile, for which there is ReadFile. Its error is an *Error, which lists every problem at once.
func Load(environ []string, readFile func(string) ([]byte, error)) (*Config, error) {
	l := loader{readFile: readFile}
	return l.load(environ)
}

func (l *loader) load(environ []string) (*Config, error) {
	global, routes := l.read(environ)
	l.forwardProxies(environ)
	l.secrets = secretsOf(global)
	c := l.globals(global)
	c.secrets = l.secrets
	l.maxValue, c.forward = c.MaxValue, l.forward
	c.given.routes = map[string]given[settings]{}
	for _, route := range slices.Sorted(maps.Keys(routes)) {
		rt, given := l.route(route, global, routes[route])
		c.Routes = append(c.Routes, rt)
		c.given.routes[rt.Name] = given
	}
	l.checkMerged(c.Routes, routes)
	l.checkConflicts(c.Routes, routes)
	l.checkAnything(global, routes)
	l.checkItself(c, global, routes)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Addresses reads where a sidecar with this environment listens: for clients, and for its operator, "" when that is off.
// The rest of the environment may be wrong. Its error is an *Error.
func Addresses(environ []string, readFile func(string) ([]byte, error)) (public, admin string, err error) {
	all := loader{readFile: readFile}
	global, _ := all.read(environ)
	only := values{}
	for _, setting := range []string{"LISTEN", "ADMIN_LISTEN"} {
		if v, ok := global[setting]; ok {
			only[setting] = v
		}
	}
	l := loader{readFile: readFile}
	g := parse[globals](&l, globalFields, only)
	if none(g.AdminListen) {
		l.listenAddress(only, g.Listen)
		return g.Listen, "", l.problems.err()
	}
	l.address(only, "ADMIN_LISTEN", g.AdminListen)
	return g.Listen, g.AdminListen, l.problems.err()
}

type loader struct {
	readFile func(string) ([]byte, error)
	problems problems
	maxValue int     // of all routes
	saw      sighted // the files of variables; nil: that is not noted
	forward  outbound.Proxies
	secrets  *upstream.Secrets
	passed   *url.URL          // SSE_UPSTREAM; nil: unset, or wrong
	passing  outbound.Settings // how it is reached
}

// value is one variable that is set to something.
type value struct {
	variable string // full name, with _FILE if it came from a file
	text     string
	file     bool
	path     string // of that file
	bad      bool   // it is reported already, for its file or its syntax; counts as set
}

// values are the variables of one route, or the global ones, by the last part of the name.
type values map[string]value

// variable names the variable that setting's value came from, or that it would come from.
func (vs values) variable(n name) string {
	if v, ok := vs[n.setting]; ok {
		return v.variable
	}
	return n.String()
}

// read sorts the environment into global variables and those of each route, and reads files.
func (l *loader) read(environ []string) (global values, routes map[string]values) {
	global, routes = values{}, map[string]values{}
	seen := map[string]bool{}
	for _, entry := range environ {
		variable, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, prefix) || text == "" {
			continue
		}
		if seen[variable] {
			l.problems.add(variable, "set twice; keep one")
			continue
		}
		seen[variable] = true
		n, file, known := l.name(variable, text)
		if !known {
			continue
		}
		into := global
		if n.route != "" {
			if routes[n.route] == nil {
				routes[n.route] = values{}
			}
			into = routes[n.route]
		}
		l.set(into, n, value{variable: variable, text: text, file: file})
	}
	return global, routes
}

// name parses variable, with or without _FILE, and reports it when it is neither known nor none of ours.
func (l *loader) name(variable, text string) (n name, file, known bool) {
	if n, known = parseName(variable); known {
		return n, false, true
	}
	if base, ok := strings.CutSuffix(variable, fileSuffix); ok {
		if n, known = parseName(base); known {
			return n, true, true
		}
	}
	if !isInjected(variable, text) {
		l.problems.add(variable, "%s", unknown(variable))
	}
	return name{}, false, false
}

func (l *loader) set(into values, n name, v value) {
	if _, twice := into[n.setting]; twice {
		l.problems.add(n.String(), "both it and %s are set; keep one", n.String()+fileSuffix)
		return
	}
	if v.file {
		v = l.contents(v)
	}
	if v.text != "" || v.bad { // a file may be empty, which counts as unset too
		into[n.setting] = v
	}
}

// contents replaces v's text, a path, by what the file holds but one trailing newline.
func (l *loader) contents(v value) value {
	v.path = v.text
	text, err := l.file(v.text)
	l.saw.note(v.path, text, err)
	if err != nil {
		// The path is not shown: it may be the secret itself, given under the wrong name.
		l.problems.add(v.variable, "cannot be read: %v; give the path of a readable file", err)
		v.bad, v.text = true, ""
		return v
	}
	v.text = strings.TrimSuffix(string(text), "\n")
	if v.text != string(text) {
		v.text = strings.TrimSuffix(v.text, "\r")
	}
	return v
}

// file reads path; its error does not hold the path.
func (l *loader) file(path string) ([]byte, error) {
	text, err := l.readFile(path)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return text, err
}

// parse reads vs into a struct of settings. A value that is wrong is reported, and its field not to be relied on.
func parse[T any](l *loader, fields []field, vs values) T {
	texts := map[string]string{}
	for setting, v := range vs {
		if !v.bad {
			texts[setting] = v.text
		}
	}
	parsed, err := env.ParseAsWithOptions[T](env.Options{Environment: texts})
	wrong := map[string]error{}
	collect(wrong, err)
	for _, f := range fields {
		v, set := vs[f.env]
		if !set || v.bad {
			continue
		}
		err := wrong[f.goName]
		if err == nil {
			err = f.check(v.text, reflect.ValueOf(parsed).FieldByName(f.goName))
		}
		if err != nil {
			l.problems.add(v.variable, "%s", v.explain(err))
			v.bad = true
			vs[f.env] = v
		}
	}
	return parsed
}

// collect sorts the library's errors by the Go field that they name.
func collect(wrong map[string]error, err error) {
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok && err != nil {
		panic(err) // our tags are wrong, not the environment
	}
	for _, err := range all.Errors {
		p, ok := errors.AsType[env.ParseError](err)
		if !ok {
			panic(err)
		}
		wrong[p.Name] = p.Err
	}
}

func (v value) explain(err error) string {
	if e, ok := errors.AsType[*valueError](err); ok && v.file {
		return "the file's text " + e.problem
	}
	return err.Error()
}

// check holds a parsed value against the bounds in its tags.
func (f field) check(text string, v reflect.Value) error {
	text = strings.TrimSpace(text)
	if len(f.oneof) > 0 && !slices.Contains(f.oneof, v.String()) {
		return &valueError{text, fmt.Sprintf("is none of %s; write %s", strings.Join(f.oneof, ", "), nearest(text, f.oneof))}
	}
	if !v.CanInt() || f.max == "" {
		return nil
	}
	low, high := f.bound(f.min, v.Type()), f.bound(f.max, v.Type())
	if n := v.Int(); n > high || n < low && (n != 0 || f.noNone) {
		return &valueError{text, "is out of bounds; write " + f.bounds()}
	}
	return nil
}

// bound reads the text of a min or max tag as a value of type t would be read.
func (f field) bound(text string, t reflect.Type) int64 {
	if text == "" {
		text = "0"
	}
	v := reflect.New(t)
	if err := v.Interface().(interface{ UnmarshalText([]byte) error }).UnmarshalText([]byte(text)); err != nil {
		panic(err) // the tag is wrong
	}
	return v.Elem().Int()
}

func (f field) bounds() string {
	low := f.min
	if low == "" {
		low = "0"
	}
	s := low + " to " + f.max
	switch {
	case f.noNone:
		return s + "; it cannot be turned off"
	case f.min != "":
		return s + ", or 0 for none"
	}
	return s
}
