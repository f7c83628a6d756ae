package redis

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

// Config configures a [Client]. Only URLs has no default.
type Config struct {
	// URLs are addresses: redis://host:port/db, or rediss:// for TLS. One is a
	// Redis alone or a member of a Cluster, several are members of one Cluster.
	// With ?master_set=NAME they are Sentinels, and credentials in the address are
	// for them. Otherwise credentials are allowed here, but better in the fields
	// below.
	URLs []string

	// Username and Password log in. PasswordFile is read at each connection
	// instead of Password, so that it can be changed while the program runs.
	// Default: what the URL says.
	Username, Password, PasswordFile string

	// TLS is used with rediss. Default: the system's authorities, and what the
	// query of the first URL says (cacertfile, certfile, keyfile).
	TLS *tls.Config

	// Prefix begins all keys. Default: courante.
	Prefix string

	// ReadTimeout is how long a read waits for Redis before it goes to the source
	// of truth. Default: 50 ms.
	ReadTimeout time.Duration

	// Refresh is the age at which a document is loaded again by one who reads it,
	// though nothing says that it changed. It is a net below the others: a
	// failover that lost a change is felt no longer. Ten percent of it is chance.
	// After twice as long without, a document is gone. Default: 10 min.
	Refresh time.Duration

	// Memory is how many bytes of documents the process keeps. Default: 128 MiB.
	Memory int

	Logger *slog.Logger         // default: slog.Default
	Meter  metric.MeterProvider // default: the global one
}

// defaultReadTimeout is some ten times what a busy Redis takes, and still less
// than anybody feels.
const defaultReadTimeout = 50 * time.Millisecond

func (c *Config) setDefaults() {
	c.Prefix = cmp.Or(c.Prefix, "courante")
	c.ReadTimeout = cmp.Or(c.ReadTimeout, defaultReadTimeout)
	c.Refresh = cmp.Or(c.Refresh, 10*time.Minute)
	c.Memory = cmp.Or(c.Memory, rueidis.DefaultCacheBytes)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Meter == nil {
		c.Meter = otel.GetMeterProvider()
	}
}

func (c *Config) check() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.URLs) == 0 {
		problem("no address: give a URL, such as redis://localhost")
	}
	for i, address := range c.URLs {
		// What the parsers say quotes the address, with the password in it.
		if u, err := url.Parse(address); err != nil || u.Scheme != "redis" && u.Scheme != "rediss" {
			problem("address %d is not of the form redis://host:port/db or rediss://...; special characters of a password have to be percent-encoded", i+1)
		} else if _, err := rueidis.ParseURL(address); err != nil {
			problem("address %d, %s, cannot be used: check its port, database and query", i+1, u.Redacted())
		}
	}
	if c.Password != "" && c.PasswordFile != "" {
		problem("both a password and a password file are given: remove one")
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		problem("prefix %q: braces mean something to a Cluster", c.Prefix)
	}
	if c.ReadTimeout < time.Millisecond || c.Refresh < time.Second || c.Memory < 0 {
		problem("a limit is too small: ReadTimeout has to be at least 1 ms, Refresh 1 s, Memory not negative")
	}
	return errors.Join(problems...)
}

// options are those of the client library.
func (c *Config) options() (rueidis.ClientOption, error) {
	opt, err := rueidis.ParseURL(c.URLs[0])
	if err != nil {
		return opt, err
	}
	for _, address := range c.URLs[1:] {
		more, err := rueidis.ParseURL(address)
		if err != nil {
			return opt, err
		}
		opt.InitAddress = append(opt.InitAddress, more.InitAddress...)
	}
	if opt.TLSConfig != nil {
		if opt.TLSConfig, err = c.tls(opt.TLSConfig); err != nil {
			return opt, err
		}
	}
	sentinels := []string{}
	if opt.Sentinel.MasterSet != "" {
		sentinels = opt.InitAddress
		opt.Sentinel.Username, opt.Sentinel.Password = opt.Username, opt.Password
		opt.Sentinel.TLSConfig, opt.Username, opt.Password = opt.TLSConfig, "", ""
	}
	opt.Username = cmp.Or(c.Username, opt.Username)
	opt.Password = cmp.Or(c.Password, opt.Password)
	if c.PasswordFile != "" {
		user, sentinel := opt.Username, opt.Sentinel
		opt.AuthCredentialsFn = func(to rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			if slices.Contains(sentinels, to.Address.String()) {
				return rueidis.AuthCredentials{Username: sentinel.Username, Password: sentinel.Password}, nil
			}
			text, err := os.ReadFile(c.PasswordFile)
			if err != nil {
				return rueidis.AuthCredentials{}, fmt.Errorf("read the password: %w", err)
			}
			return rueidis.AuthCredentials{Username: user, Password: strings.TrimRight(string(text), "\r\n")}, nil
		}
	}
	opt.ClientName = c.Prefix
	opt.CacheSizeEachConn = c.Memory
	// A connection on which nothing is heard for so long is given up.
	opt.Dialer = net.Dialer{Timeout: time.Second, KeepAlive: time.Second}
	opt.Sentinel.Dialer = opt.Dialer
	opt.ConnWriteTimeout = 2 * time.Second
	return opt, nil
}

// tls is what to speak TLS with. Each member of a Cluster has a name of its
// own, so none is fixed.
func (c *Config) tls(parsed *tls.Config) (*tls.Config, error) {
	if c.TLS != nil {
		return c.TLS, nil
	}
	u, err := url.Parse(c.URLs[0])
	if err != nil {
		return nil, err
	}
	conf, q := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: parsed.InsecureSkipVerify}, u.Query() //nolint:gosec // if the address says so
	if file := q.Get("cacertfile"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("file %s holds no certificate in PEM", file)
		}
	}
	if file := q.Get("certfile"); file != "" {
		cert, err := tls.LoadX509KeyPair(file, q.Get("keyfile"))
		if err != nil {
			return nil, fmt.Errorf("read our certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}
