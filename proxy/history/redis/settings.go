package redis

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
	"sidestream/proxy/redisconn"
)

// Settings say where the store is, and how it is used.
type Settings struct {
	redisconn.Address // where it is

	Prefix string        // of all keys
	TTL    time.Duration // how long the history of a stream is kept that nobody has open
	Peer   string        // the address at which other replicas reach this one; "" none
}

// Parse reads an address as [redisconn.Parse] does.
func Parse(address string) (s Settings, err error) {
	s.Address, err = redisconn.Parse(address)
	return s, err
}

// String is where the store is, without user and password.
func (s Settings) String() string { return s.Address.String() + ", prefix " + s.Prefix }

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
