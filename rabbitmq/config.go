package rabbitmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Config configures a [Broker]. Only URLs has no default.
type Config struct {
	// URLs are the addresses of the cluster's members: amqp://host:port/vhost,
	// or amqps:// for TLS. A connection goes to the first that answers, beginning
	// with any of them, later with the one that answered last. Credentials are
	// allowed here, but better in the fields below.
	URLs []string

	// Username and Password log in. PasswordFile is read at each connection
	// instead of Password, so that it can be changed while the program runs.
	// Default: what the URL says, and guest for both if it says nothing.
	Username, Password, PasswordFile string

	// TLS is used with amqps. Default: the system's authorities, and what the
	// query of the URL says (cacertfile, certfile, keyfile).
	TLS *tls.Config

	// Prefix begins the names of all queues and exchanges. Systems with
	// different prefixes share a RabbitMQ without seeing one another.
	// Default: courante.
	Prefix string

	// Window is how many messages of one Publish may wait for confirmation at
	// once. Default: 2000.
	Window int

	// Prefetch is how many messages of a queue a consumer may hold without
	// having acknowledged them. It has to cover what a lane handles while an
	// acknowledgement travels, and bounds memory. Default: 1000.
	Prefetch int

	// Heartbeat is the time in which each side gives a sign of life, twice. A
	// connection that is silent half as long again is given up. A busy RabbitMQ
	// can be silent for a second or two. Default: 10 s.
	Heartbeat time.Duration

	// Dial connects to an address, for programs that have to go through
	// something. Default: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Logger tells of connections made and lost. Default: slog.Default.
	Logger *slog.Logger
}

const (
	// RabbitMQ writes to disk once for all that it has received meanwhile, so the
	// rate grows with the window until its processors are busy, which they are
	// at some hundreds. This is what a relay sends at once.
	defaultWindow = 2000
	// Four of the runtime's largest units, so that the next ones are here while
	// one is committed, also if they are of several logs. With 300 a consumer
	// uses a third more CPU time for each message, with 3000 a tenth less.
	defaultPrefetch = 1000

	prefetchLeast = 500

	defaultHeartbeat = 10 * time.Second
)

func (c *Config) setDefaults() {
	c.Prefix = cmp.Or(c.Prefix, "courante")
	c.Window = cmp.Or(c.Window, defaultWindow)
	c.Prefetch = cmp.Or(c.Prefetch, defaultPrefetch)
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
}

func (c *Config) check() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.URLs) == 0 {
		problem("no address: give the URL of a member of the cluster, such as amqp://localhost")
	}
	for i, address := range c.URLs {
		// What the parsers say quotes the address, with the password in it.
		if u, err := url.Parse(address); err != nil || u.Scheme != "amqp" && u.Scheme != "amqps" {
			problem("address %d is not of the form amqp://host:port/vhost or amqps://...; special characters of a password have to be percent-encoded", i+1)
		} else if _, err := amqp.ParseURI(address); err != nil {
			problem("address %d, %s, cannot be used: check its port, vhost and query", i+1, u.Redacted())
		}
	}
	if c.Password != "" && c.PasswordFile != "" {
		problem("both a password and a password file are given: remove one")
	}
	if c.Username == "" && (c.Password != "" || c.PasswordFile != "") {
		problem("a password without a user name")
	}
	if strings.ContainsAny(c.Prefix, ".*#/") || len(c.Prefix) > 50 {
		problem("prefix %q: want at most 50 characters, without . * # and /", c.Prefix)
	}
	// What a lane cannot take yet must not fill it; see [courante.Consumption]. The
	// protocol has 16 bits for it.
	if c.Prefetch < prefetchLeast || c.Prefetch > 65535 {
		problem("prefetch %d: want %d to 65535", c.Prefetch, prefetchLeast)
	}
	if c.Window < 1 {
		problem("window %d: want at least 1", c.Window)
	}
	if c.Heartbeat < time.Second {
		problem("heartbeat %v: want at least a second", c.Heartbeat)
	}
	return errors.Join(problems...)
}

// login returns the credentials, nil for those of the URL.
func (c *Config) login() ([]amqp.Authentication, error) {
	if c.Username == "" {
		return nil, nil
	}
	password := c.Password
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	return []amqp.Authentication{&amqp.PlainAuth{Username: c.Username, Password: password}}, nil
}

// Broker is a process's access to RabbitMQ. It makes its connections when they
// are needed, and again when they are lost.
type Broker struct {
	config Config
	log    *slog.Logger
	names  names

	// RabbitMQ stops reading from a connection that publishes while it is short
	// of memory or disk. What is consumed, which makes room, must go on.
	publishing, consuming *connection

	mu            sync.Mutex // guards what follows
	idle          []*publisher
	subscriptions map[*subscription]bool
	closed        bool
}

var _ courante.Broker = (*Broker)(nil)

// Open returns a broker. It connects, to find out what is wrong with the
// configuration; a RabbitMQ that does not answer is no error, since a program
// has to be able to start, and runs, without it.
func Open(ctx context.Context, config Config) (*Broker, error) {
	config.setDefaults()
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("rabbitmq: %w", err)
	}
	b := &Broker{
		config: config, log: config.Logger, names: names{prefix: config.Prefix},
		subscriptions: map[*subscription]bool{},
	}
	b.publishing, b.consuming = newConnection(b, "publish"), newConnection(b, "consume")
	err := b.withChannel(ctx, func(ch *amqp.Channel) error { return b.names.declareExchanges(ch) })
	var refused *refusedError
	if errors.As(err, &refused) || ctx.Err() != nil {
		b.Close()
		return nil, err
	}
	if err != nil {
		b.log.WarnContext(ctx, "RabbitMQ cannot be reached; trying again when it is needed", "error", err)
	}
	return b, nil
}

// Name implements [courante.Broker].
func (*Broker) Name() string { return "rabbitmq" }

// Check says whether RabbitMQ answers.
func (b *Broker) Check(ctx context.Context) error {
	return b.withChannel(ctx, func(*amqp.Channel) error { return nil })
}

// Close ends all consumption, gives back what was not acknowledged, and closes
// the connections. Whoever is inside a method gets [courante.ErrClosed].
func (b *Broker) Close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	b.idle = nil
	var list []*subscription
	for s := range b.subscriptions {
		list = append(list, s)
	}
	b.mu.Unlock()
	for _, s := range list {
		s.end()
	}
	b.publishing.close()
	b.consuming.close()
	for _, s := range list {
		<-s.done
	}
}
