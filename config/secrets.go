package config

import (
	"maps"
	"slices"
	"strings"

	"sidestream/proxy/upstream"
)

// secretsOf are the secrets among the global variables; nil: there is none.
func secretsOf(global values) *upstream.Secrets {
	held := map[string]string{}
	for setting, v := range global {
		if lower := (name{setting: setting}).secret(); lower != "" {
			held[lower] = v.text
		}
	}
	if len(held) == 0 {
		return nil
	}
	return upstream.NewSecrets(held)
}

// secretsDiff are the variables of secrets that differ. Whoever uses a secret goes by its new value at once, whichever route it is.
func secretsDiff(was, now values) (changed []string) {
	all := maps.Clone(was)
	maps.Copy(all, now)
	for _, setting := range slices.Sorted(maps.Keys(all)) {
		n := name{setting: setting}
		if strings.HasPrefix(setting, secretPrefix) && n.secret() != "" && was[setting].text != now[setting].text {
			changed = append(changed, variableOf(n, was, now))
		}
	}
	return changed
}
