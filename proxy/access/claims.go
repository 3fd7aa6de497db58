package access

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Claim is one thing that is known of a client.
type Claim struct{ Name, Text string }

// Claims are what is known of a client, in the order of AUTH_CLAIMS.
type Claims []Claim

// text is the claim of this name, "" where there is none.
func (cs Claims) text(name string) string {
	for _, c := range cs {
		if c.Name == name {
			return c.Text
		}
	}
	return ""
}

// kept are the claims of a token that are known of every client, so that it can be revoked by them.
var kept = []string{"sub", "sid", "jti"}

// tokenClaims picks names, and those that are kept, out of a token's claims.
func tokenClaims(all map[string]any, names []string) (cs Claims) {
	for _, name := range slices.Concat(names, kept) {
		if cs.text(name) != "" {
			continue
		}
		if text := claimText(find(all, name)); text != "" {
			cs = append(cs, Claim{name, text})
		}
	}
	return cs
}

// find returns the claim called name, or what is at name as a path with dots: realm_access.roles.
func find(all map[string]any, name string) any {
	for {
		if v, ok := all[name]; ok {
			return v
		}
		first, rest, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		if all, ok = all[first].(map[string]any); !ok {
			return nil
		}
		name = rest
	}
}

// claimText is a claim as templates have it: a list of texts and numbers has commas between them, everything else that is no text is
// JSON.
func claimText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		texts := make([]string, len(v))
		for i, one := range v {
			if _, nested := one.([]any); nested {
				return compact(v)
			}
			if _, nested := one.(map[string]any); nested {
				return compact(v)
			}
			texts[i] = claimText(one)
		}
		return strings.Join(texts, ",")
	}
	return compact(v)
}

func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}
