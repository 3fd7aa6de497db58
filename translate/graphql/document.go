package graphql

// maxDepth is how deep the fields of an operation may nest, its fragments included.
const maxDepth = 32

// document is a document with operations and fragments.
type document struct {
	tokens     []token
	operations []*definition
	fragments  map[string]*definition
}

// definition is one operation or fragment.
type definition struct {
	kind    string // query, mutation, subscription or fragment
	name    string // "" an operation without a name
	depth   int    // of its own fields
	spreads []spread
	whole   int  // depth with fragments; 0: not known yet
	open    bool // it is being measured: a fragment that spreads itself
}

// spread is a fragment that is spread, and how deep.
type spread struct {
	name  string
	depth int
}

// parse reads a document as far as has to be known of it.
func parse(text string) (*document, *Problem) {
	tokens, problem := lex(text)
	if problem != nil {
		return nil, problem
	}
	d := &document{tokens: tokens, fragments: map[string]*definition{}}
	for rest := tokens; len(rest) > 0; {
		var def *definition
		if def, rest, problem = define(rest); problem != nil {
			return nil, problem
		}
		if def.kind != "fragment" {
			d.operations = append(d.operations, def)
		} else if d.fragments[def.name] != nil {
			return nil, syntax("two fragments of the document have the same name")
		} else {
			d.fragments[def.name] = def
		}
	}
	return d, nil
}

// define reads one definition.
func define(tokens []token) (def *definition, rest []token, problem *Problem) {
	def, rest = new(definition), tokens[1:]
	switch first := tokens[0]; first {
	case "{":
		def.kind, rest = "query", tokens
	case "query", "mutation", "subscription":
		if def.kind = string(first); len(rest) > 0 && begins(rest[0][0]) {
			def.name, rest = string(rest[0]), rest[1:]
		}
	case "fragment":
		if len(rest) < 3 || !begins(rest[0][0]) || rest[0] == "on" || rest[1] != "on" || !begins(rest[2][0]) {
			return nil, nil, syntax("a fragment of the document has no name or type")
		}
		def.kind, def.name, rest = "fragment", string(rest[0]), rest[3:]
	default:
		return nil, nil, syntax("the document holds something that is neither an operation nor a fragment")
	}
	for len(rest) > 0 && rest[0] != "{" { // variables and directives
		if rest, problem = step(rest); problem != nil {
			return nil, nil, problem
		}
	}
	if len(rest) == 0 {
		return nil, nil, syntax("an operation or fragment of the document has no selection")
	}
	rest, problem = def.selects(rest)
	return def, rest, problem
}

// step is what follows a token, or a group in parentheses.
func step(tokens []token) (rest []token, problem *Problem) {
	switch tokens[0] {
	case "(":
	case "}", ")":
		return nil, syntax("the document's brackets do not match")
	default:
		return tokens[1:], nil
	}
	var open []token
	for i, t := range tokens {
		switch t {
		case "(":
			open = append(open, ")")
		case "[":
			open = append(open, "]")
		case "{":
			open = append(open, "}")
		case ")", "]", "}":
			if open[len(open)-1] != t {
				return nil, syntax("the document's brackets do not match")
			}
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			return tokens[i+1:], nil
		}
	}
	return nil, syntax("the document is not complete")
}

// selects reads a selection set, with those in it.
func (def *definition) selects(tokens []token) (rest []token, problem *Problem) {
	var open []int // depths of the fields in the sets that are open
	inline := false
	for len(tokens) > 0 {
		switch t := tokens[0]; {
		case t == "{":
			depth := 1
			if n := len(open); n > 0 {
				depth = open[n-1]
				if !inline {
					depth++
				}
			}
			open, inline = append(open, depth), false
			def.depth = max(def.depth, depth)
			tokens = tokens[1:]
			if len(tokens) > 0 && tokens[0] == "}" {
				return nil, syntax("a selection of the document is empty")
			}
		case t == "}":
			open, tokens = open[:len(open)-1], tokens[1:]
			if len(open) == 0 {
				return tokens, nil
			}
		case t == "..." && len(tokens) > 1 && tokens[1] != "on" && begins(tokens[1][0]):
			def.spreads = append(def.spreads, spread{string(tokens[1]), open[len(open)-1]})
			tokens = tokens[2:]
		case t == "...":
			inline, tokens = true, tokens[1:]
		default:
			if tokens, problem = step(tokens); problem != nil {
				return nil, problem
			}
		}
	}
	return nil, syntax("the document is not complete")
}

// operation is the one that a request means.
func (d *document) operation(name string) (*definition, *Problem) {
	var all []*definition
	for _, def := range d.operations {
		if name == "" || def.name == name {
			all = append(all, def)
		}
	}
	switch {
	case len(d.operations) == 0:
		return nil, refused("GRAPHQL_VALIDATION_FAILED", "the document has no operation")
	case len(all) == 0:
		return nil, refused("GRAPHQL_VALIDATION_FAILED", "the document has no operation of the name in operationName")
	case name == "" && len(all) > 1:
		return nil, refused("GRAPHQL_VALIDATION_FAILED", "the document has several operations; name one in operationName")
	case len(all) > 1: // some services run the first, some the last
		return nil, refused("GRAPHQL_VALIDATION_FAILED", "the document has several operations of the name in operationName")
	}
	return all[0], nil
}

// measure is how deep the fields of def nest, its fragments included. A fragment that is not there is for the service to refuse.
func (d *document) measure(def *definition) (int, *Problem) {
	switch {
	case def.open:
		return 0, refused("GRAPHQL_VALIDATION_FAILED", "a fragment of the document spreads itself")
	case def.whole > 0:
		return def.whole, nil
	}
	def.open = true
	whole := def.depth
	for _, s := range def.spreads {
		fragment := d.fragments[s.name]
		if fragment == nil {
			continue
		}
		within, problem := d.measure(fragment)
		if problem != nil {
			return 0, problem
		}
		whole = max(whole, s.depth-1+within)
	}
	def.whole, def.open = whole, false
	return whole, nil
}
