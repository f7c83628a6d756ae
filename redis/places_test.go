package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
)

// TestSentinel takes the power from the master, and the Sentinel makes another
// server the master: no read fails meanwhile, and then the cache is used again.
func TestSentinel(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	locked := []string{"--requirepass", "s3cret", "--masterauth", "s3cret", "--repl-diskless-sync-delay", "0"}
	master := courantetest.StartRedis(t, locked...)
	host, port, _ := net.SplitHostPort(master.Address())
	replica := courantetest.StartRedis(t, append(locked, "--replicaof", host, port)...)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	watch := fmt.Sprintf("sentinel monitor cache %s %s 1\nsentinel auth-pass cache s3cret\n", host, port) +
		"sentinel down-after-milliseconds cache 500\nsentinel failover-timeout cache 5000\n"
	if err := os.WriteFile(conf, []byte(watch), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := courantetest.StartRedis(t, conf, "--sentinel")
	until(t, "the sentinel knows of the replica", func() bool { return strings.Contains(ask(t, sentinel, "info", "sentinel"), "slaves=1") })
	until(t, "the replica has what the master has", func() bool {
		return strings.Contains(ask(t, replica, "auth s3cret\r\ninfo", "replication")+ask(t, replica, "auth s3cret\r\nrole"), "connected")
	})

	db := newDatabase(t)
	config := redis.Config{URLs: []string{sentinel.URL() + "?master_set=cache"}, PasswordFile: file}
	load := startLoad(t, startNotes(t, db, config), startNotes(t, db, config))
	load.used(t, "the start")
	master.Kill()
	_, heir, _ := net.SplitHostPort(replica.Address())
	until(t, "the sentinel names another master", func() bool {
		return strings.Contains(ask(t, sentinel, "sentinel get-master-addr-by-name cache"), heir)
	})
	load.more(t, 500)
	load.used(t, "the master is gone")
	if role := ask(t, replica, "auth s3cret\r\nrole"); strings.Contains(role, "slave") {
		t.Errorf("the replica says %q, want that it is the master", role)
	}
	load.end(t)
}

// TestCluster spreads documents over three masters. When one of them is gone,
// reads of what it had go to the source of truth.
func TestCluster(t *testing.T) {
	t.Parallel()
	var masters []*courantetest.Redis
	var buses []string
	for range 3 {
		bus := freePort(t)
		buses = append(buses, bus)
		masters = append(masters, courantetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"))
	}
	for i, m := range masters {
		control(t, m, "cluster addslotsrange", strconv.Itoa(i*5462), strconv.Itoa(min(i*5462+5461, 16383)))
		control(t, masters[0], "cluster meet", strings.Replace(m.Address(), ":", " ", 1), buses[i])
	}
	for _, m := range masters {
		until(t, "the cluster is one", func() bool {
			info := ask(t, m, "cluster info")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:3") && strings.Contains(info, "cluster_slots_assigned:16384")
		})
	}
	db := newDatabase(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	config := redis.Config{URLs: []string{"redis://" + gone.Addr().String(), masters[0].URL(), masters[2].URL()}}
	load := startLoad(t, startNotes(t, db, config), startNotes(t, db, config))
	load.used(t, "the start")
	for i, m := range masters {
		if got := ask(t, m, "dbsize"); strings.HasPrefix(got, ":0") {
			t.Errorf("master %d has no keys", i)
		}
	}
	for i, m := range masters {
		m.Kill()
		load.more(t, 500)
		m.Start(t)
		load.used(t, fmt.Sprintf("master %d was gone", i))
	}
	load.end(t)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestSecure has a server that speaks TLS with who shows a certificate, and
// changes its password under a program that runs.
func TestSecure(t *testing.T) {
	t.Parallel()
	certs := courantetest.NewCertificates(t)
	secure := freePort(t)
	server := courantetest.StartRedis(t, "--requirepass", "first", "--tls-port", secure,
		"--tls-cert-file", certs.Cert, "--tls-key-file", certs.Key, "--tls-ca-cert-file", certs.CA, "--tls-auth-clients", "yes")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	address := "rediss://127.0.0.1:" + secure
	ours := "?" + url.Values{"cacertfile": {certs.CA}, "certfile": {certs.Cert}, "keyfile": {certs.Key}}.Encode()
	for _, tt := range []struct{ name, url, password, fix string }{
		{"unknown authority", address, "s3cret", "?cacertfile="},
		{"without a certificate", address + "?cacertfile=" + certs.CA, "s3cret", "certfile=FILE&keyfile=FILE"},
		{"another name", "rediss://localhost:" + secure + ours, "s3cret", "name that is in the server's certificate"},
		{"TLS to a plain port", "rediss://" + server.Address() + ours, "s3cret", "Is that its port for TLS?"},
		{"wrong password", address + ours, "s3cret", "Check the user and the password"},
		{"no password", address + ours, "", "Check the user and the password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := redis.Open(redis.Config{URLs: []string{tt.url}, Password: tt.password, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.Check(t.Context())
			for range 9 { // a machine that is too busy to shake hands in a second says nothing about the certificate
				if !errors.Is(err, context.DeadlineExceeded) {
					break
				}
				err = c.Check(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.fix) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want an error with %q and without the password", err, tt.fix)
			}
		})
	}
	if _, err := redis.Open(redis.Config{URLs: []string{address + "?cacertfile=/nowhere"}}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a file that is not there: %v", err)
	}

	p := startNotes(t, newDatabase(t), redis.Config{URLs: []string{address + ours}, PasswordFile: file})
	mustSet(t, p, "a", "over TLS")
	p.warm(t, "a")
	control(t, server, "auth first\r\nconfig set requirepass second\r\nclient kill type normal")
	until(t, "the old password is refused", func() bool {
		err := p.client.Check(t.Context())
		return err != nil && strings.Contains(err.Error(), "Check the user and the password")
	})
	write("second")
	until(t, "the new password is used", func() bool { return p.client.Check(t.Context()) == nil })
	p.warm(t, "a")
}
