package translate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// errPatch means that a patch is none, or does not fit its document.
var errPatch = errors.New("the patch does not fit the document")

// ApplyPatch returns what doc, a value of [ParseJSON], becomes by a patch as a [Patcher] makes it (RFC 6902: add, remove, replace, move).
// doc is not to be used afterwards. It fails where an operation names what is not there.
func ApplyPatch(doc any, patch []byte) (any, error) {
	v, err := ParseJSON(patch)
	if err != nil {
		return nil, err
	}
	ops, ok := v.([]any)
	if !ok {
		return nil, errPatch
	}
	for _, o := range ops {
		op, _ := o.(map[string]any)
		if doc, err = applyOne(doc, op); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func applyOne(doc any, op map[string]any) (_ any, err error) {
	name, _ := op["op"].(string)
	path, ok := op["path"].(string)
	value, valued := op["value"]
	if !ok || (name == "add" || name == "replace") != valued {
		return nil, errPatch
	}
	switch name {
	case "remove", "add", "replace":
		doc, _, err = edit(doc, path, name, value)
	case "move":
		from, ok := op["from"].(string)
		if !ok {
			return nil, errPatch
		}
		if doc, value, err = edit(doc, from, "remove", nil); err == nil {
			doc, _, err = edit(doc, path, "add", value)
		}
	default:
		err = fmt.Errorf("%w: op is %.20q", errPatch, name)
	}
	return doc, err
}

// edit returns doc with the change at path made, and what was there.
func edit(doc any, path, op string, value any) (now, was any, err error) {
	if path == "" {
		return value, doc, nil
	}
	if path[0] != '/' {
		return nil, nil, errPatch
	}
	token, rest, deeper := strings.Cut(path[1:], "/")
	token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	if deeper {
		rest = "/" + rest
	}
	switch doc := doc.(type) {
	case map[string]any:
		return editObject(doc, token, rest, op, value)
	case []any:
		return editList(doc, token, rest, op, value)
	}
	return nil, nil, errPatch
}

func editObject(doc map[string]any, name, rest, op string, value any) (now, was any, err error) {
	old, has := doc[name]
	switch {
	case rest == "" && op == "add" && has || (rest != "" || op != "add") && !has:
		return nil, nil, errPatch // a Patcher replaces what is there
	case rest != "":
		doc[name], was, err = edit(old, rest, op, value)
		return doc, was, err
	case op == "remove":
		delete(doc, name)
	default:
		doc[name] = value
	}
	return doc, old, nil
}

func editList(doc []any, token, rest, op string, value any) (now, was any, err error) {
	i, err := strconv.Atoi(token)
	if err != nil || i < 0 || i > len(doc) || i == len(doc) && (rest != "" || op != "add") {
		return nil, nil, errPatch
	}
	switch {
	case rest != "":
		doc[i], was, err = edit(doc[i], rest, op, value)
		return doc, was, err
	case op == "add":
		return slices.Insert(slices.Clone(doc), i, value), nil, nil
	case op == "remove":
		was = doc[i]
		return slices.Delete(slices.Clone(doc), i, i+1), was, nil
	}
	was, doc[i] = doc[i], value
	return doc, was, nil
}
