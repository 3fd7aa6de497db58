package config

import (
	"net/netip"
	"slices"
)

// proxies checks SSE_TRUSTED_PROXIES.
func (l *loader) proxies(vs values, given list) (trusted []netip.Prefix) {
	for _, text := range given {
		network, err := netip.ParsePrefix(text)
		if at, single := netip.ParseAddr(text); single == nil {
			network, err = netip.PrefixFrom(at.Unmap().WithZone(""), at.Unmap().BitLen()), nil
		}
		variable := vs.variable(name{setting: "TRUSTED_PROXIES"})
		switch {
		case err != nil:
			l.problems.add(variable, "%s is no address and no network; write such as 10.0.0.0/8, 192.0.2.7 or fd00::/8", quote(text))
		case network.Bits() == 0:
			l.problems.add(variable, "%s is everybody, who could then say that he is anybody; write the networks of the proxies in front", quote(text))
		case !slices.Contains(trusted, network.Masked()):
			trusted = append(trusted, network.Masked())
		}
	}
	return trusted
}
