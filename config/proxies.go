package config

import (
	"net/netip"
	"slices"
)

// proxies checks SSE_TRUSTED_PROXIES.
func (l *loader) proxies(vs values, given list) (trusted []netip.Prefix) {
	for _, text := range given {
		if text == "unix" { // see trustsLocal
			continue
		}
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

// trustsLocal checks the word unix in SSE_TRUSTED_PROXIES, and that clients over a Unix socket can be told from each other where they are counted.
func (l *loader) trustsLocal(vs values, given list, listen string, counted bool) bool {
	trusted, local := slices.Contains(given, "unix"), onSocket(listen)
	switch {
	case trusted && !local && !vs["LISTEN"].bad:
		l.problems.add(vs.variable(name{setting: "TRUSTED_PROXIES"}), "unix has no effect, as SSE_LISTEN is no Unix socket; leave it out")
	case local && counted && !trusted:
		l.problems.add(vs.variable(name{setting: "MAX_CLIENTS_PER_IP"}), "has no effect, as clients over the Unix socket of SSE_LISTEN have no address; add unix to SSE_TRUSTED_PROXIES, so that the one that the proxy in front gives in X-Forwarded-For counts, or unset it")
	}
	return trusted
}
