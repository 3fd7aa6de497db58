package learn

import (
	"strings"
	"unicode"
)

// secretNames are what names have in them whose values are secret.
var secretNames = lazily(`(?i)token|secret|^pass$|passw|^seed$|passcode|passphrase|ldap_?pass|pwd|api_?-?key|access_?-?key|master_?-?key|auth$|authorization|credential|jwt|signature|^sig$|^digest$|^resume$|ticket|session|^sid$|csrf|xsrf|bearer|nonce|otp$|^pin$|_key$|^key$|cookie|redacted`)

// named reports whether a value of this name is secret, whatever it looks like.
func named(name string) bool { return secretNames.MatchString(name) }

// tokenRun is a piece of a text that could be a token or a part of one.
var tokenRun = lazily(`[A-Za-z0-9_\-+/=]{16,}`)

var uuid = lazily(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// random reports whether s looks as if it were made by chance, as tokens are: a run of letters and digits that change too often for words.
func random(s string) bool {
	if uuid.MatchString(s) || strings.HasPrefix(s, "eyJ") && len(s) > 30 {
		return true
	}
	for _, run := range tokenRun.FindAllString(s, 16) {
		if changes(run) {
			return true
		}
	}
	return false
}

// changes reports whether letters and digits alternate in run as they do not in words, dates and versions.
func changes(run string) bool {
	kind := func(r rune) int {
		switch {
		case unicode.IsDigit(r):
			return 1
		case unicode.IsUpper(r):
			return 2
		case unicode.IsLower(r):
			return 3
		}
		return 0
	}
	var last, digits, letters, turns int
	for _, r := range run {
		k := kind(r)
		if k == 0 {
			continue
		}
		if k == 1 {
			digits++
		} else {
			letters++
		}
		if last != 0 && k != last && (k == 1 || last == 1) {
			turns++
		}
		last = k
	}
	cased := strings.ToLower(run) != run && strings.ToUpper(run) != run
	return digits >= 2 && letters >= 2 && turns >= 3 || cased && caseTurns(run) >= 6 && len(run) >= 20 && vowels(run) < 0.25
}

// caseTurns counts where small letters follow capital ones that follow small ones.
func caseTurns(run string) (n int) {
	for i := 1; i < len(run); i++ {
		if unicode.IsUpper(rune(run[i])) != unicode.IsUpper(rune(run[i-1])) {
			n++
		}
	}
	return n
}

// vowels is their share in run, which is higher in words.
func vowels(run string) float64 {
	n := 0
	for _, r := range strings.ToLower(run) {
		if strings.ContainsRune("aeiou", r) {
			n++
		}
	}
	return float64(n) / float64(len(run))
}

// secret reports whether a value must not be shown.
func secret(name, value string) bool {
	return value != "" && value != "true" && value != "false" && value != "null" && (named(name) || random(value))
}

// shownWord is what may be shown of what a service sent: words that tell messages apart.
var shownWord = lazily(`^[\p{L}\p{N}_.:/ \-]{0,48}$`)

// shows reports whether a value may be part of a program.
func shows(value string) bool { return shownWord.MatchString(value) && !random(value) }

// vault is the values that are secret for sure, since they were in a cookie, in Authorization, or had a name that says so.
type vault struct{ values map[string]bool }

// minSecret is how long a value has to be for its being in another text to say anything.
const minSecret = 8

func (v *vault) add(value string) {
	if len(value) >= minSecret {
		if v.values == nil {
			v.values = map[string]bool{}
		}
		v.values[value] = true
	}
}

// ask adds what is secret in a request.
func (v *vault) ask(q *Request) {
	for _, c := range q.Cookies {
		v.add(c.Value)
	}
	for name, values := range q.Header {
		if name == "Origin" || name == "Accept" || name == "Sec-Websocket-Protocol" {
			continue
		}
		for _, value := range values {
			if name == "Authorization" {
				_, token, _ := strings.Cut(value, " ")
				v.add(token)
				v.add(value)
			} else if secret(name, value) {
				v.add(value)
			}
		}
	}
	for _, p := range q.Query {
		if secret(p.Name, p.Value) {
			v.add(p.Value)
		}
	}
}

// in reports whether text holds a value that is in the vault.
func (v *vault) in(text string) bool {
	for value := range v.values {
		if strings.Contains(text, value) {
			return true
		}
	}
	return false
}

// analytics are cookies of services of other companies, and of what a page remembers for itself: no service decides by them what a client may see.
var analytics = lazily(`(?i)^(_ga|_gid|_gat|_gcl|_fb|_hj|__utm|_pk_|_cl(ck|sk)|_uet|_pin|_tt_|_scid|_rdt|_li_|ajs_|amp_|amplitude|mp_|optimizely|intercom-|hubspotutk|__hs|_mkto|_vis|__cf|cf_|_dc_|OptanonConsent|OptanonAlert|CookieConsent|cookie_?consent|euconsent|didomi|_dd_|_pendo|_ym_|sentry|plausible|matomo|theme|lang|locale|i18n|timezone|tz$|currency|color|dark|sidebar|consent)`)

// sessions are the names by which frameworks call the cookie that says who a client is, and what people call it.
var sessions = lazily(`(?i)^(__Host-|__Secure-)?(connect\.sid|sid|ssid|jsessionid|phpsessid|asp\.net_sessionid|\.aspnet.*|\.aspxauth|laravel_session|ci_session|rack\.session|sessionid|.*sess(ion)?(_?id)?|.*auth.*|.*token.*|.*jwt.*|remember.*|.*_sid|sid_.*|.*login.*|_oauth2_proxy.*|user(_?id)?)$`)

// csrf are cookies that are compared with what a request that changes something sends, and mean nothing to one that reads.
var csrf = lazily(`(?i)csrf|xsrf`)
