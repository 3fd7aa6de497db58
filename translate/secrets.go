// This file is the secrets that programs and templates may name: keys that feeds are signed with, tokens. The rules:
//
//   - Programs name each by itself, as $secret.name, and not all of them: it is known beforehand which they need, and that these exist.
//   - A value may change while programs use it. It is no part of a stream's identity: it is the sidecar's own, and the same for all clients.

package translate

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/itchyny/gojq"
)

// Secrets are values by their names, in lower case. A nil *Secrets has none. Safe for concurrent use.
type Secrets struct{ held *atomic.Pointer[secretValues] }

type secretValues struct {
	texts map[string]string
	known map[string]any // the same, as programs see them
}

// NewSecrets returns the secrets that values are, by names that [SecretName] has accepted.
func NewSecrets(values map[string]string) *Secrets {
	s := &Secrets{new(atomic.Pointer[secretValues])}
	s.Set(values)
	return s
}

// Set has the secrets be other ones, whoever uses them.
func (s *Secrets) Set(values map[string]string) {
	v := &secretValues{texts: maps.Clone(values), known: map[string]any{}}
	for name, text := range values {
		v.known[name] = text
	}
	s.held.Store(v)
}

// Succeed has the users of old, whose place s takes, know what s knows, now and whenever s is set. It is called before s is used. Either
// may be nil.
func (s *Secrets) Succeed(old *Secrets) {
	if s != nil && old != nil {
		old.held.Store(s.held.Load())
		s.held = old.held
	}
}

// Equal reports whether s and other hold the same.
func (s *Secrets) Equal(other *Secrets) bool { return maps.Equal(s.all(), other.all()) }

// Text is the secret called name; ok is false when there is none.
func (s *Secrets) Text(name string) (text string, ok bool) {
	text, ok = s.all()[name]
	return text, ok
}

// All are the values of all secrets, in no order.
func (s *Secrets) All() []string { return slices.Collect(maps.Values(s.all())) }

func (s *Secrets) all() map[string]string {
	if s == nil {
		return nil
	}
	return s.held.Load().texts
}

func (s *Secrets) values() any {
	if s == nil {
		return map[string]any{}
	}
	return s.held.Load().known
}

var secretName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// SecretName reports whether a secret may be called that: a name as in $secret.name.
func SecretName(name string) bool { return secretName.MatchString(name) }

// MissingSecret is what to do about a secret that is named and not there.
func MissingSecret(name string) string {
	upper := strings.ToUpper(name)
	return fmt.Sprintf("there is no secret called %s; set SSE_SECRET_%s, or SSE_SECRET_%s_FILE to the path of a file that holds it", name, upper, upper)
}

// named reports whether a program names secrets. The error is about one that is not there, or is not named by itself.
func (s *Secrets) named(q *gojq.Query) (confides bool, err error) {
	uses, err := usesOf(q, []string{"secret"})
	for _, use := range uses {
		if _, ok := s.Text(use.Name); !ok {
			return false, fmt.Errorf("names $secret.%s, but %s", use.Name, MissingSecret(use.Name))
		}
	}
	return len(uses) > 0, err
}

// Use is a value that a program takes out of a variable that is an object: $query.room is {query, room}.
type Use struct{ Kind, Name string }

// usesOf returns what a program takes out of variables, each of which has to be followed by a name, so that it is known what it depends on.
func usesOf(q *gojq.Query, variables []string) (uses []Use, err error) {
	eachVariable(q, func(t *gojq.Term, kind string) {
		if !slices.Contains(variables, kind) {
			return
		}
		name, ok := nameAfter(t)
		if !ok {
			err = fmt.Errorf("uses $%[1]s as a whole; write the name of each value that it needs, such as $%[1]s.name or $%[1]s[\"a-name\"]", kind)
			return
		}
		if use := (Use{kind, name}); !slices.Contains(uses, use) {
			uses = append(uses, use)
		}
	})
	return uses, err
}

// eachVariable calls f with every term of a program that is a variable, with or without its $, but for those that it has made itself.
func eachVariable(q *gojq.Query, f func(t *gojq.Term, name string)) {
	own := ownNames(q)
	each(reflect.ValueOf(q), func(v any) {
		t, ok := v.(*gojq.Term)
		if ok && t.Type == gojq.TermTypeFunc && len(t.Func.Args) == 0 && !slices.Contains(own, t.Func.Name) {
			f(t, strings.TrimPrefix(t.Func.Name, "$"))
		}
	})
}

// ownNames are the variables and functions that a program makes itself, which hide ours of the same names.
func ownNames(q *gojq.Query) (names []string) {
	each(reflect.ValueOf(q), func(v any) {
		switch v := v.(type) {
		case *gojq.FuncDef:
			names = append(append(names, v.Name), v.Args...)
		case *gojq.Pattern:
			names = append(names, v.Name)
		}
	})
	return names
}

// nameAfter is the name that a term is indexed with at once.
func nameAfter(t *gojq.Term) (string, bool) {
	if len(t.SuffixList) == 0 || t.SuffixList[0].Index == nil {
		return "", false
	}
	index := t.SuffixList[0].Index
	switch {
	case index.Name != "":
		return index.Name, true
	case index.Str != nil && index.Str.Queries == nil:
		return index.Str.Str, true
	case index.Start != nil && !index.IsSlice:
		if text := constantText(index.Start); text != nil {
			return *text, true
		}
	}
	return "", false
}
