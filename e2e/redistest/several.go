package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Sentinel is a master with a replica, and three sentinels that watch them under the name "main".
type Sentinel struct {
	Servers   [2]*Server
	Sentinels []*Server
}

// StartSentinel starts them, and waits until they know each other. down is after how many ms a server counts as down.
func StartSentinel(t testing.TB, down int) *Sentinel {
	t.Helper()
	s := &Sentinel{}
	s.Servers[0] = Start(t)
	_, port, _ := net.SplitHostPort(s.Servers[0].Addr)
	s.Servers[1] = Start(t, "--replicaof", "127.0.0.1 "+port)
	for range 3 {
		conf := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %s 2\nsentinel down-after-milliseconds main %d\nsentinel failover-timeout main 5000\n", port, down)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := FreePort(t)
		one := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(at)), t: t, dir: filepath.Dir(conf)}
		one.args = []string{conf, "--sentinel", "--port", strconv.Itoa(at), "--bind", "127.0.0.1", "--dir", one.dir}
		one.Run()
		t.Cleanup(one.Kill)
		s.Sentinels = append(s.Sentinels, one)
	}
	Until(t, "the sentinels", func() bool {
		for _, one := range s.Sentinels {
			text := one.Do("SENTINEL", "MASTER", "main") + "\n"
			if !strings.Contains(text, "num-slaves\n1\n") || !strings.Contains(text, "num-other-sentinels\n2\n") || !strings.Contains(text, "flags\nmaster\n") {
				return false
			}
		}
		return strings.Contains(s.Servers[0].Do("INFO", "replication"), "state=online")
	})
	return s
}

// Addrs are the sentinels', with commas.
func (s *Sentinel) Addrs() string { return addrs(s.Sentinels) }

func addrs(servers []*Server) string {
	var all []string
	for _, one := range servers {
		all = append(all, one.Addr)
	}
	return strings.Join(all, ",")
}

// Master is the one that sentinels name.
func (s *Sentinel) Master() *Server {
	at := strings.Split(s.Sentinels[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"), "\n")
	for _, one := range s.Servers {
		if len(at) == 2 && one.Addr == net.JoinHostPort(at[0], at[1]) {
			return one
		}
	}
	return s.Servers[0]
}

// Failover has the other server be the master, though nothing is wrong with this one, and waits until it is.
func (s *Sentinel) Failover(t testing.TB) {
	t.Helper()
	was, asked := s.Master(), time.Time{}
	Until(t, "the failover", func() bool {
		if s.Master() != was {
			return true
		}
		if time.Since(asked) > 20*time.Second && s.Sentinels[0].Do("SENTINEL", "FAILOVER", "main") == "OK" { // it gives up where no replica is good at the moment
			asked = time.Now()
		}
		return false
	})
}

// Cluster is three masters.
type Cluster struct{ Nodes []*Server }

// StartCluster starts it, and waits until it serves all slots.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	for range 3 {
		c.Nodes = append(c.Nodes, Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--cluster-require-full-coverage", "no"))
	}
	for i, n := range c.Nodes {
		n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*5462), strconv.Itoa(min(16383, (i+1)*5462-1)))
		if i > 0 {
			host, port, _ := net.SplitHostPort(c.Nodes[0].Addr)
			n.Do("CLUSTER", "MEET", host, port)
		}
	}
	Until(t, "the cluster", func() bool {
		for _, n := range c.Nodes {
			info := n.Do("CLUSTER", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") || !strings.Contains(info, "cluster_slots_ok:16384") {
				return false
			}
		}
		return true
	})
	return c
}

// Addrs are the nodes', with commas.
func (c *Cluster) Addrs() string { return addrs(c.Nodes) }

// Owner is the node that has the key's slot.
func (c *Cluster) Owner(key string) *Server {
	for _, n := range c.Nodes {
		if answer := n.Do("EXISTS", key); !strings.HasPrefix(answer, "MOVED") {
			return n
		}
	}
	return nil
}

// Move moves the key's slot, with all that is in it, to another node.
func (c *Cluster) Move(t testing.TB, key string) {
	t.Helper()
	from := c.Owner(key)
	to := c.Nodes[0]
	if to == from {
		to = c.Nodes[1]
	}
	slot, fromID, toID := from.Do("CLUSTER", "KEYSLOT", key), from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := net.SplitHostPort(to.Addr)
	for {
		keys := strings.Fields(from.Do("CLUSTER", "GETKEYSINSLOT", slot, "100"))
		if len(keys) == 0 {
			break
		}
		from.Do(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
	}
	for _, n := range append([]*Server{to, from}, c.Nodes...) {
		n.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}

// Until waits for what is sure to come, a minute at most.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
