package redisconn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Address says where a Redis is, and as whom it is asked.
type Address struct {
	Addresses []string // host:port; of sentinels where Master is set, of some of the nodes where Cluster is
	Master    string   // the name by which sentinels know the master
	Cluster   bool
	TLS       bool
	User      string // of the ACL; "" the default one
	Password  string
	DB        int
}

// Schemes are those of the URLs that [Parse] takes.
var Schemes = []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}

// Parse reads an address:
//
//	redis://[USER:PASSWORD@]HOST[:PORT][/DB]                       one server; rediss:// with TLS
//	redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB]     the master that sentinels know by this name
//	redis+cluster://[USER:PASSWORD@]HOST[:PORT],…                  a cluster
//
// The ports are 6379, and 26379 of sentinels, where none is given. No error holds a part of the address.
func Parse(address string) (a Address, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	kind, ok := strings.CutPrefix(scheme, "rediss")
	if a.TLS = ok; !ok {
		if kind, ok = strings.CutPrefix(scheme, "redis"); !ok {
			return a, errors.New("its scheme is none of " + strings.Join(Schemes, ", "))
		}
	}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(path, "?#") {
		return a, errors.New("it has a query or a fragment; take it away")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := a.credentials(authority[:at]); err != nil {
			return a, err
		}
		authority = authority[at+1:]
	}
	port := "6379"
	switch kind {
	case "":
		err = a.database(path)
	case "+sentinel":
		port = "26379"
		master, db, _ := strings.Cut(path, "/")
		if a.Master = master; master == "" {
			return a, errors.New("it does not name the master; write redis+sentinel://HOST,HOST/MASTER")
		}
		err = a.database(db)
	case "+cluster":
		if a.Cluster = true; path != "" {
			return a, errors.New("a cluster has no databases; end it after the hosts")
		}
	default:
		return a, errors.New("its scheme is none of " + strings.Join(Schemes, ", "))
	}
	if err != nil {
		return a, err
	}
	return a, a.hosts(authority, port, kind == "")
}

func (a *Address) credentials(text string) (err error) {
	user, password, both := strings.Cut(text, ":")
	if a.User, err = url.PathUnescape(user); err == nil {
		a.Password, err = url.PathUnescape(password)
	}
	switch {
	case err != nil:
		return errors.New("user or password hold a % that begins no escape; write it as %25")
	case !both:
		return errors.New("it has a user without a password; write USER:PASSWORD@, or :PASSWORD@ for the default user")
	}
	return nil
}

func (a *Address) database(text string) (err error) {
	if text == "" {
		return nil
	}
	if a.DB, err = strconv.Atoi(text); err != nil || a.DB < 0 || a.DB > 1<<20 {
		return errors.New("its path is not the number of a database")
	}
	return nil
}

func (a *Address) hosts(text, port string, one bool) error {
	for _, host := range strings.Split(text, ",") {
		name, given, err := net.SplitHostPort(host)
		if err != nil {
			name, given = strings.Trim(host, "[]"), port
		}
		if n, err := strconv.Atoi(given); name == "" || strings.ContainsAny(name, " @/") || err != nil || n < 1 || n > 65535 {
			return errors.New("it names no host, or a port that is none; write HOST or HOST:PORT")
		}
		a.Addresses = append(a.Addresses, net.JoinHostPort(name, given))
	}
	if one && len(a.Addresses) > 1 {
		return errors.New("it names several hosts; use redis+sentinel:// or redis+cluster:// for them")
	}
	return nil
}

// String is where the Redis is, without user and password.
func (a Address) String() string {
	kind := "redis"
	if a.TLS {
		kind = "rediss"
	}
	at := strings.Join(a.Addresses, ",")
	switch {
	case a.Cluster:
		return fmt.Sprintf("%s+cluster://%s", kind, at)
	case a.Master != "":
		return fmt.Sprintf("%s+sentinel://%s/%s", kind, at, a.Master)
	}
	return fmt.Sprintf("%s://%s/%d", kind, at, a.DB)
}
