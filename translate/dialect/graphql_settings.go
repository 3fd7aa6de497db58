// This file reads CONNECT, SUBSCRIBE and HELLO for the GraphQL dialects.

package dialect

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

const gqlLineForm = `write a GraphQL document, or {"query":"...","variables":{...},"operationName":"..."}`

// gqlOperation reads what to run: a document, or a payload with one in it.
func gqlOperation(text string) (payload json.RawMessage, name string, err error) {
	text = strings.TrimSpace(text)
	if !utf8.ValidString(text) {
		return nil, "", errors.New("is not UTF-8")
	}
	if !isJSONObject(text) {
		if err := gqlDocument(text); err != nil {
			return nil, "", err
		}
		return jsonFrame(map[string]string{"query": text}).Data, "", nil
	}
	var p struct {
		Query         *string
		OperationName string
		Extensions    json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, "", errors.New("is not JSON of that form; " + gqlLineForm)
	}
	if p.Query == nil && p.Extensions == nil {
		return nil, "", errors.New("has no query; " + gqlLineForm)
	}
	if p.Query != nil {
		if err := gqlDocument(*p.Query); err != nil {
			return nil, "", err
		}
	}
	return json.RawMessage(text), p.OperationName, nil
}

// isJSONObject tells JSON from a GraphQL document, which may begin with a brace too, but never with a brace and a quote.
func isJSONObject(text string) bool {
	rest, ok := strings.CutPrefix(text, "{")
	rest = strings.TrimLeft(rest, " \t\r\n")
	return ok && (strings.HasPrefix(rest, `"`) || strings.HasPrefix(rest, "}"))
}

// gqlDocument checks that text looks like a complete document, and one in which quotes alone tell where the values of clients stand: it
// has neither block strings nor comments with quotes.
func gqlDocument(text string) error {
	text = strings.TrimSpace(text)
	if text == "" || !strings.ContainsAny(text[:1], "{#@,") && !gqlBegins(text) {
		return errors.New("is not an operation; " + gqlLineForm)
	}
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case !quoted && strings.HasPrefix(text[i:], `"""`):
			return errors.New(`has a block string; write a plain one, "..."`)
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '#':
			comment, _, _ := strings.Cut(text[i:], "\n")
			if strings.Contains(comment, `"`) {
				return errors.New("has a comment with a quote; leave that out")
			}
			i += len(comment)
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
	}
	if depth != 0 || quoted {
		return errors.New("is not a complete document; write all of an operation on one line")
	}
	return nil
}

func gqlBegins(text string) bool {
	for _, word := range []string{"subscription", "query", "mutation", "fragment"} {
		if rest, ok := strings.CutPrefix(text, word); ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n{(@#,")) {
			return true
		}
	}
	return false
}

// gqlConnect is CONNECT as the payload of connection_init, nil when it is unset.
func gqlConnect(connect string) (json.RawMessage, error) {
	connect = strings.TrimSpace(connect)
	if connect == "" {
		return nil, nil
	}
	if connect[0] != '{' || !json.Valid([]byte(connect)) || !utf8.ValidString(connect) {
		return nil, errors.New(`is not a JSON object; write the payload of connection_init, e.g. {"token":"..."}`)
	}
	return json.RawMessage(connect), nil
}

func checkGraphQL(connect string, lines []string) error {
	var problems []error
	if _, err := gqlConnect(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		if _, _, err := gqlOperation(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
