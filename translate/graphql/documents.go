package graphql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Documents are those that clients may have run. Nil: any.
type Documents struct {
	byID   map[string]string   // text by id, which for most tools is the sha256 of the text in hex
	folded map[string]string   // id by itself in lower case; "" there are several
	normal map[string]struct{} // by tokens
}

const documentsForm = `write {"id":"document"}, as Relay's persist file and graphql-codegen's persisted-documents.json are, or Apollo's manifest of persisted queries`

// ParseDocuments reads a file of documents: a JSON object of id and text, or Apollo's manifest ("apollo-persisted-query-manifest", version 1).
// The error says what is wrong with the file and how to write it, without what it holds but an id.
func ParseDocuments(text []byte) (*Documents, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("is not UTF-8; " + documentsForm)
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, errors.New("is not a JSON object; " + documentsForm)
	}
	byID := map[string]string{}
	if _, apollo := fields["operations"]; apollo {
		var manifest struct {
			Format     string
			Version    int
			Operations []struct{ ID, Body string }
		}
		if err := json.Unmarshal(text, &manifest); err != nil || manifest.Format != "apollo-persisted-query-manifest" || manifest.Version != 1 {
			return nil, errors.New(`has "operations", but is not version 1 of Apollo's manifest ("format":"apollo-persisted-query-manifest"); ` + documentsForm)
		}
		for _, op := range manifest.Operations {
			byID[op.ID] = op.Body
		}
	} else if err := json.Unmarshal(text, &byID); err != nil {
		return nil, errors.New("has a value that is no text; " + documentsForm)
	}
	return newDocuments(byID)
}

func newDocuments(byID map[string]string) (*Documents, error) {
	d := &Documents{byID: byID, folded: map[string]string{}, normal: map[string]struct{}{}}
	subscribe := false
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		doc, problem := parse(byID[id])
		if problem != nil {
			return nil, fmt.Errorf("the document %q: %w", cut(id), problem)
		}
		for _, op := range doc.operations {
			subscribe = subscribe || op.kind == "subscription"
		}
		if _, several := d.folded[strings.ToLower(id)]; several {
			d.folded[strings.ToLower(id)] = ""
		} else {
			d.folded[strings.ToLower(id)] = id
		}
		d.normal[normal(doc.tokens)] = struct{}{}
	}
	if !subscribe {
		return nil, errors.New("has no document with a subscription; " + documentsForm)
	}
	return d, nil
}

// cut is an id fit for an error.
func cut(id string) string {
	if len(id) > 80 {
		return strings.ToValidUTF8(id[:80], "") + "…"
	}
	return id
}

// Len is how many there are.
func (d *Documents) Len() int { return len(d.byID) }

// text is that of the document called id, or by nearly that name: the digits of a hash are in upper case or in lower.
func (d *Documents) text(id string) (string, bool) {
	if d == nil {
		return "", false
	}
	if text, ok := d.byID[id]; ok {
		return text, true
	}
	near := d.folded[strings.ToLower(id)]
	return d.byID[near], near != ""
}

// has reports whether text is one of them.
func (d *Documents) has(text string) bool {
	tokens, problem := lex(text)
	if problem != nil {
		return false
	}
	_, ok := d.normal[normal(tokens)]
	return ok
}
