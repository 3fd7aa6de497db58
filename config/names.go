package config

import (
	"regexp"
	"slices"
	"strings"

	"sidestream/proxy/upstream"
)

const (
	prefix      = "SSE_"
	routePrefix = "SSE_ROUTE_"
	fileSuffix  = "_FILE"
)

// name is what a variable's name says, without its _FILE.
type name struct {
	route   string // capital letters and digits; "" for a global variable
	setting string // LISTEN, HEARTBEAT, REPLAY_EVENTS, SECRET_<NAME>
}

func (n name) String() string {
	if n.route == "" {
		return prefix + n.setting
	}
	return routePrefix + n.route + "_" + n.setting
}

var routeName = regexp.MustCompile(`^[A-Z0-9]+$`)

// parseName tells known names from unknown ones.
func parseName(s string) (n name, known bool) {
	if rest, ok := strings.CutPrefix(s, routePrefix); ok {
		route, setting, _ := strings.Cut(rest, "_")
		return name{route, setting}, routeName.MatchString(route) && isRouteSetting(setting)
	}
	n.setting = strings.TrimPrefix(s, prefix)
	return n, isGlobal(n.setting) || n.secret() != ""
}

// secretPrefix is what the settings begin with that are secrets, each by a name of the user's.
const secretPrefix = "SECRET_"

// secret is the name of the secret that a variable holds, in lower case; "" when it holds none.
func (n name) secret() string {
	upper, ok := strings.CutPrefix(n.setting, secretPrefix)
	lower := strings.ToLower(upper)
	if !ok || n.route != "" || upper != strings.ToUpper(lower) || strings.HasSuffix(upper, fileSuffix) || !upstream.SecretName(lower) {
		return ""
	}
	return lower
}

func isRouteSetting(setting string) bool {
	return slices.ContainsFunc(routeFields, func(f field) bool { return f.env == setting })
}

func isGlobal(setting string) bool {
	return slices.ContainsFunc(globalFields, func(f field) bool { return f.env == setting }) || isShared(setting)
}

// isShared reports whether the setting is a route's and may also be given globally.
func isShared(setting string) bool {
	return slices.ContainsFunc(routeFields, func(f field) bool { return f.env == setting && f.global })
}

// Kubernetes sets these in every Pod of a namespace with a Service called sse or sse-<x>:
// https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
var (
	injected     = regexp.MustCompile(`^SSE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	injectedPort = regexp.MustCompile(`^SSE_([A-Z0-9_]+_)?PORT$`)
	portValue    = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

func isInjected(variable, value string) bool {
	return injected.MatchString(variable) || injectedPort.MatchString(variable) && portValue.MatchString(value)
}

// unknown says what is likely meant by a variable that is not known.
func unknown(variable string) string {
	if strings.HasPrefix(variable, prefix+secretPrefix) {
		return "is not the name of a secret; write SSE_SECRET_ and a name of capital letters, digits and _ that begins with a letter, such as SSE_SECRET_OKX"
	}
	base, file := strings.CutSuffix(variable, fileSuffix)
	suggestion := suggest(base)
	if file {
		suggestion += fileSuffix
	}
	return "unknown; the nearest known variable is " + suggestion
}

func suggest(variable string) string {
	if rest, ok := strings.CutPrefix(variable, routePrefix); ok {
		return suggestSetting(rest)
	}
	setting := strings.TrimPrefix(variable, prefix)
	if isRouteSetting(setting) {
		return routePrefix + "<NAME>_" + setting
	}
	return nearest(variable, append(globalNames(), misspeltPrefix(variable)...))
}

// suggestSetting is about what follows SSE_ROUTE_.
func suggestSetting(rest string) string {
	route, setting, ok := strings.Cut(rest, "_")
	if !ok {
		if isRouteSetting(route) {
			return routePrefix + "<NAME>_" + route
		}
		return routePrefix + strings.ToUpper(route) + "_PATH"
	}
	// A name with an underscore in it, such as SSE_ROUTE_MY_FEED_PATH.
	for _, f := range routeFields {
		if head, ok := strings.CutSuffix(rest, "_"+f.env); ok && routeName.MatchString(compact(head)) {
			return routePrefix + compact(head) + "_" + f.env
		}
	}
	if isGlobal(setting) && !isRouteSetting(setting) {
		return prefix + setting
	}
	return routePrefix + strings.ToUpper(route) + "_" + nearest(setting, settingNames())
}

// compact makes a route name of s: capital letters and digits.
func compact(s string) string {
	return strings.ToUpper(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// misspeltPrefix reads variable as a route's setting after something that is not quite SSE_ROUTE_.
func misspeltPrefix(variable string) (candidates []string) {
	for _, f := range routeFields {
		if head, ok := strings.CutSuffix(variable, "_"+f.env); ok {
			route := head[strings.LastIndex(head, "_")+1:]
			candidates = append(candidates, routePrefix+route+"_"+f.env)
		}
	}
	return candidates
}

func globalNames() (names []string) {
	for _, f := range globalFields {
		names = append(names, prefix+f.env)
	}
	for _, f := range routeFields {
		if f.global {
			names = append(names, prefix+f.env)
		}
	}
	return names
}

func settingNames() (names []string) {
	for _, f := range routeFields {
		names = append(names, f.env)
	}
	return names
}

// nearest is the candidate with the smallest edit distance to s, the first of several.
func nearest(s string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return distance(s, a) - distance(s, b) })
}

// distance counts insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
