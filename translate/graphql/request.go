package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxRequest is how many bytes a request may have: the body of a POST, or what is in the query of a GET.
	MaxRequest = 64 << 10

	maxVariables = 64 // of a request
	maxNesting   = 16 // of variables and extensions, in objects and lists
)

// Problem is why a request is not run. Its text is for the client and holds nothing of what it has sent.
type Problem struct {
	Malformed bool   // it is no request of GraphQL at all; else its document, or what it asks for, is not to be run
	Code      string // extensions.code
	Message   string
}

func (p *Problem) Error() string { return p.Message }

// Result is the problem as the result of the request (GraphQL specification, section 7.1).
func (p *Problem) Result() []byte { return Failure(p.Code, p.Message) }

// Failure is a result without data, with one error.
func Failure(code, message string) []byte {
	type extensions struct {
		Code string `json:"code"`
	}
	type failure struct {
		Message    string     `json:"message"`
		Extensions extensions `json:"extensions"`
	}
	text, _ := json.Marshal(map[string][]failure{"errors": {{message, extensions{code}}}}) // which is strings alone
	return text
}

func refused(code, message string) *Problem { return &Problem{Code: code, Message: message} }
func syntax(message string) *Problem        { return refused("GRAPHQL_PARSE_FAILED", message) }
func tooLarge(message string) *Problem      { return refused("OPERATION_TOO_LARGE", message) }
func malformed(message string) *Problem {
	return &Problem{Malformed: true, Code: "BAD_REQUEST", Message: message}
}

// Request is what a client has sent.
type Request struct {
	Query         string
	OperationName string
	DocumentID    string // of one that is known (GraphQL over HTTP, appendix "Persisted Documents"); "" none
	Variables     json.RawMessage
	Extensions    json.RawMessage
}

// FromBody reads the body of a POST, JSON of at most [MaxRequest] bytes.
func FromBody(body []byte) (*Request, *Problem) {
	if len(body) > MaxRequest || !utf8.Valid(body) {
		return nil, malformed("the body is not JSON in UTF-8, or longer than 64 KiB")
	}
	var in struct {
		Query, OperationName, DocumentID *string
		Variables, Extensions            json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, malformed(`the body is not a JSON object; send {"query":"...","variables":{...},"operationName":"..."}`)
	}
	return &Request{Query: orEmpty(in.Query), OperationName: orEmpty(in.OperationName), DocumentID: orEmpty(in.DocumentID), Variables: in.Variables, Extensions: in.Extensions}, nil
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// FromQuery reads the query of a GET (GraphQL over HTTP, section "GET").
func FromQuery(query url.Values) (*Request, *Problem) {
	size := 0
	for _, name := range []string{"query", "operationName", "documentId", "variables", "extensions"} {
		if size += len(query.Get(name)); !utf8.ValidString(query.Get(name)) {
			return nil, malformed("the query of the address is not UTF-8")
		}
	}
	if size > MaxRequest {
		return nil, malformed("the request in the query of the address is longer than 64 KiB")
	}
	return &Request{Query: query.Get("query"), OperationName: query.Get("operationName"), DocumentID: query.Get("documentId"),
		Variables: json.RawMessage(query.Get("variables")), Extensions: json.RawMessage(query.Get("extensions"))}, nil
}

// canonical is a request as it is sent on.
type canonical struct {
	Query         string         `json:"query"`
	OperationName string         `json:"operationName,omitempty"`
	Variables     map[string]any `json:"variables,omitempty"`
	Extensions    map[string]any `json:"extensions,omitempty"`
}

// Subscription is the request in its one form, as JSON, if it subscribes and its document is one of those allowed; nil: any is. Queries and
// mutations are refused: what one client subscribes to is given to others, and asked for again when a connection is lost.
func (r *Request) Subscription(allowed *Documents) (string, *Problem) {
	var out canonical
	var problem *Problem
	if out.Variables, problem = object("variables", r.Variables); problem != nil {
		return "", problem
	}
	if out.Extensions, problem = object("extensions", r.Extensions); problem != nil {
		return "", problem
	}
	if len(out.Variables) > maxVariables {
		return "", tooLarge("the request has more than 64 variables")
	}
	text, problem := r.document(out.Extensions, allowed)
	if problem != nil {
		return "", problem
	}
	delete(out.Extensions, "persistedQuery") // which is between the client and this
	d, problem := parse(text)
	if problem != nil {
		return "", problem
	}
	op, problem := d.operation(r.OperationName)
	if problem != nil {
		return "", problem
	}
	if op.kind != "subscription" {
		return "", refused("OPERATION_NOT_ALLOWED", "only subscriptions are answered with events here; send a "+op.kind+" as a request of its own, with Accept: application/json")
	}
	depth, problem := d.measure(op)
	switch {
	case problem != nil:
		return "", problem
	case depth > maxDepth:
		return "", tooLarge("the operation's fields nest deeper than 32")
	}
	out.Query, out.OperationName = text, r.OperationName
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	if err := w.Encode(out); err != nil {
		return "", malformed("the request cannot be written as JSON")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// document is the text of the request's document: as it was sent, or by its hash or id.
func (r *Request) document(extensions map[string]any, allowed *Documents) (string, *Problem) {
	persisted, _ := extensions["persistedQuery"].(map[string]any)
	hash, _ := persisted["sha256Hash"].(string)
	id := hash
	if id == "" {
		id = r.DocumentID
	}
	text := r.Query
	if strings.TrimSpace(text) == "" {
		if id == "" {
			return "", malformed(`the request has no document; send {"query":"...","variables":{...},"operationName":"..."}`)
		}
		known, ok := allowed.text(id)
		if !ok {
			return "", refused("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound") // the words that Apollo's clients look for
		}
		return known, nil
	}
	if sum := sha256.Sum256([]byte(text)); hash != "" && !strings.EqualFold(hash, hex.EncodeToString(sum[:])) {
		return "", refused("BAD_REQUEST", "the sha256Hash in extensions.persistedQuery is not that of the query")
	}
	if allowed != nil && !allowed.has(text) {
		return "", refused("PERSISTED_QUERY_NOT_IN_LIST", "this document is not in the list of those that are allowed")
	}
	return text, nil
}

// object reads a JSON object, nil where there is none.
func object(name string, text json.RawMessage) (map[string]any, *Problem) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if nesting(text) > maxNesting {
		return nil, tooLarge(name + " nest deeper than 16")
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var v map[string]any
	err := in.Decode(&v)
	if _, after := in.Token(); err != nil || after != io.EOF {
		return nil, malformed(name + " is not a JSON object")
	}
	return v, nil
}

// nesting is how deep the objects and lists of a JSON text nest.
func nesting(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// Refusal is a result for a client whose operation the service has refused with an HTTP status, or what comes to one.
func Refusal(status int) []byte {
	code := "UPSTREAM_REFUSED"
	switch status {
	case 401:
		code = "UNAUTHENTICATED"
	case 403:
		code = "FORBIDDEN"
	}
	return Failure(code, "the request was refused ("+strconv.Itoa(status)+")")
}
