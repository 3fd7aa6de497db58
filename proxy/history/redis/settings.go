package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

// Settings say where the store is, and how it is used.
type Settings struct {
	Addresses []string // host:port; of sentinels where Master is set, of some of the nodes where Cluster is
	Master    string   // the name by which sentinels know the master
	Cluster   bool
	TLS       bool
	User      string // of the ACL; "" the default one
	Password  string
	DB        int

	Prefix string        // of all keys
	TTL    time.Duration // how long the history of a stream is kept that nobody has open
	Peer   string        // the address at which other replicas reach this one; "" none
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
func Parse(address string) (s Settings, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	kind, ok := strings.CutPrefix(scheme, "rediss")
	if s.TLS = ok; !ok {
		if kind, ok = strings.CutPrefix(scheme, "redis"); !ok {
			return s, errors.New("its scheme is none of " + strings.Join(Schemes, ", "))
		}
	}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(path, "?#") {
		return s, errors.New("it has a query or a fragment; take it away")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := s.credentials(authority[:at]); err != nil {
			return s, err
		}
		authority = authority[at+1:]
	}
	port := "6379"
	switch kind {
	case "":
		err = s.database(path)
	case "+sentinel":
		port = "26379"
		master, db, _ := strings.Cut(path, "/")
		if s.Master = master; master == "" {
			return s, errors.New("it does not name the master; write redis+sentinel://HOST,HOST/MASTER")
		}
		err = s.database(db)
	case "+cluster":
		if s.Cluster = true; path != "" {
			return s, errors.New("a cluster has no databases; end it after the hosts")
		}
	default:
		return s, errors.New("its scheme is none of " + strings.Join(Schemes, ", "))
	}
	if err != nil {
		return s, err
	}
	return s, s.hosts(authority, port, kind == "")
}

func (s *Settings) credentials(text string) (err error) {
	user, password, both := strings.Cut(text, ":")
	if s.User, err = url.PathUnescape(user); err == nil {
		s.Password, err = url.PathUnescape(password)
	}
	switch {
	case err != nil:
		return errors.New("user or password hold a % that begins no escape; write it as %25")
	case !both:
		return errors.New("it has a user without a password; write USER:PASSWORD@, or :PASSWORD@ for the default user")
	}
	return nil
}

func (s *Settings) database(text string) (err error) {
	if text == "" {
		return nil
	}
	if s.DB, err = strconv.Atoi(text); err != nil || s.DB < 0 || s.DB > 1<<20 {
		return errors.New("its path is not the number of a database")
	}
	return nil
}

func (s *Settings) hosts(text, port string, one bool) error {
	for _, host := range strings.Split(text, ",") {
		name, given, err := net.SplitHostPort(host)
		if err != nil {
			name, given = strings.Trim(host, "[]"), port
		}
		if n, err := strconv.Atoi(given); name == "" || strings.ContainsAny(name, " @/") || err != nil || n < 1 || n > 65535 {
			return errors.New("it names no host, or a port that is none; write HOST or HOST:PORT")
		}
		s.Addresses = append(s.Addresses, net.JoinHostPort(name, given))
	}
	if one && len(s.Addresses) > 1 {
		return errors.New("it names several hosts; use redis+sentinel:// or redis+cluster:// for them")
	}
	return nil
}

// String is where the store is, without user and password.
func (s Settings) String() string {
	kind := "redis"
	if s.TLS {
		kind = "rediss"
	}
	at := strings.Join(s.Addresses, ",")
	switch {
	case s.Cluster:
		return fmt.Sprintf("%s+cluster://%s, prefix %s", kind, at, s.Prefix)
	case s.Master != "":
		return fmt.Sprintf("%s+sentinel://%s/%s, prefix %s", kind, at, s.Master, s.Prefix)
	}
	return fmt.Sprintf("%s://%s/%d, prefix %s", kind, at, s.DB, s.Prefix)
}

// Start is [history.Opener]'s. It does not wait for the store, which may be away.
func (s Settings) Start(log *slog.Logger) (history.Running, error) { return Open(s, log), nil }

// refreshTime is how often it is looked where the master, or the nodes of the cluster, are, beside what they say themselves.
const refreshTime = 5 * time.Second

// client connects. It fails while the store is away.
func (s Settings) client() (rueidis.Client, error) {
	o := rueidis.ClientOption{
		InitAddress: s.Addresses, Username: s.User, Password: s.Password, SelectDB: s.DB, ClientName: "sidestream",
		Dialer:            net.Dialer{Timeout: commandTime, KeepAlive: time.Second},
		ConnWriteTimeout:  2 * blockTime,
		DisableCache:      true,
		DisableRetry:      true, // what is tried again, and for how long, is decided here
		ForceSingleClient: !s.Cluster && s.Master == "",
		ShuffleInit:       true,
		PipelineMultiplex: -1, // one connection
		// The default is half a MiB each.
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
	}
	if s.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if s.Master != "" {
		o.Sentinel = rueidis.SentinelOption{Dialer: o.Dialer, TLSConfig: o.TLSConfig, MasterSet: s.Master, TopologyRefreshInterval: refreshTime}
	}
	if s.Cluster {
		o.ClusterOption.ShardsRefreshInterval = refreshTime
	}
	return rueidis.NewClient(o)
}
