package config

import "strings"

// Learning is the configuration of a sidecar that does nothing but learn from what passes through to upstream: s without routes, and without what
// only they need. Its error is an *Error, or wraps [ErrUsage].
func (s Source) Learning(upstream string) (*Config, Source, error) {
	environ, err := s.Environ()
	if err != nil {
		return nil, s, err
	}
	kept := []string{prefix + "UPSTREAM=" + upstream, prefix + "LEARN=true"}
	for _, entry := range environ {
		variable, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, routePrefix) && variable != prefix+"UPSTREAM" && variable != prefix+"UPSTREAM"+fileSuffix && variable != prefix+"LEARN" {
			kept = append(kept, entry)
		}
	}
	alone := Source{environ: kept}
	c, err := alone.Load()
	if err == nil {
		c.Legible = true
	}
	return c, alone, err
}
