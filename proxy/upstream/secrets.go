package upstream

import "sidestream/translate"

// Secrets are the secrets that programs and templates of routes may name. See [translate.Secrets].
type Secrets = translate.Secrets

// NewSecrets returns the secrets that values are, by names that [SecretName] has accepted.
func NewSecrets(values map[string]string) *Secrets { return translate.NewSecrets(values) }

// SecretName reports whether a secret may be called that.
func SecretName(name string) bool { return translate.SecretName(name) }
