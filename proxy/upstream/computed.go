// This file is {= program } and {secret.NAME} in templates. The rules:
//
//   - A program names each value of the client's request that it uses ($query.room). These are part of the identity, missing or not, so that
//     clients who differ in one never share a stream; what it knows beside them (the state, the time, secrets) is no client's.
//   - It runs when the text is used, which is on each connection or request, and its output is escaped as any value there would be.
//   - A secret is inserted as it is at that moment.

package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/itchyny/gojq"

	"sidestream/translate"
)

// programBegins is what a program in a template begins with.
const programBegins = "{="

// cutProgram takes apart a text that begins with one: where it ends, and the program. Braces nest in it as jq has them, so that the first } is
// the right one after which what stands before is a program.
func cutProgram(text string) (end int, src string, err error) {
	body := text[len(programBegins):]
	var first error
	for at, depth := 0, 0; at < len(body); at++ {
		switch body[at] {
		case '{':
			depth++
		case '}':
			src := body[:at]
			if strings.TrimSpace(src) == "" {
				return 0, "", errors.New("{=} has no program; write jq between {= and }")
			}
			if _, err := gojq.Parse(src); err == nil {
				return len(programBegins) + at + 1, src, nil
			} else if first == nil && depth <= 0 {
				first = err
			}
			depth--
		}
	}
	if first != nil {
		return 0, "", fmt.Errorf("%s holds no jq program that ends with a }: %w", programBegins, quietly(first))
	}
	return 0, "", errors.New("{= is never closed; write a } after the program")
}

// quietly is an error of the parser's without a text that it quotes, which may be a password.
func quietly(err error) error {
	if at := strings.Index(err.Error(), `unexpected token "\"`); at >= 0 {
		return errors.New("unexpected text in quotes")
	}
	return err
}

// resolve gives a placeholder the program, or the secrets, that it stands for.
func (p *part) resolve(src string, secrets *translate.Secrets) (err error) {
	switch p.kind {
	case "program":
		if p.program, err = secrets.CompileComputed(src); err != nil {
			return fmt.Errorf("{=%s} %w", src, err)
		}
	case "secret":
		p.name, p.secrets = strings.ToLower(p.name), secrets
		if _, ok := secrets.Text(p.name); !ok {
			return fmt.Errorf("%s: %s", p.text(), translate.MissingSecret(p.name))
		}
	}
	return nil
}

// uses are what a program takes of the client's request.
func (p part) uses() []translate.Use {
	if p.program == nil {
		return nil
	}
	return p.program.Uses
}

// unknownClaim is a claim that a placeholder takes and that nothing fills in, "" when there is none.
func unknownClaim(p part, known []string) string {
	if p.kind == "auth" && !slices.Contains(known, p.name) {
		return p.name
	}
	for _, use := range p.uses() {
		if use.Kind == "auth" && !slices.Contains(known, use.Name) {
			return use.Name
		}
	}
	return ""
}

// secret is what the secret is now.
func (p part) secret(func(string) string) (string, error) {
	text, ok := p.secrets.Text(p.name)
	if !ok { // a reload has taken it away from a route that drains
		return "", errors.New(translate.MissingSecret(p.name))
	}
	escaped, err := p.escape(text)
	if err != nil {
		return "", fmt.Errorf("%s %w", p.text(), err)
	}
	return escaped, nil
}

// appendProgram adds the program to text, with the values of c that it uses.
func (p part) appendProgram(text translate.Text, c *clientRequest) (translate.Text, error) {
	identity := []byte(p.name)
	client := make(map[translate.Use]string, len(p.program.Uses))
	for _, use := range p.program.Uses {
		value := c.take(use.Kind, use.Name)
		if err := c.bounds(part{kind: use.Kind, name: use.Name}, value); err != nil {
			return text, err
		}
		client[use] = value
		for _, one := range []string{use.Kind, use.Name, value} {
			identity = strconv.AppendInt(append(identity, 0), int64(len(one)), 10)
			identity = append(append(identity, ':'), one...)
		}
	}
	return text.AppendComputed(string(identity), func(value func(string) string) (string, error) {
		ctx, cancel := boundProgram()
		defer cancel()
		made, err := p.program.Text(ctx, client, value)
		if err != nil {
			return "", err
		}
		escaped, err := p.escape(made)
		if err != nil {
			return "", fmt.Errorf("what {= } yields %w", err)
		}
		return escaped, nil
	}), nil
}
