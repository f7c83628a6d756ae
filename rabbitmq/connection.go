package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// dialTimeout is for the connection and the handshake with one member.
	dialTimeout = 5 * time.Second
	// writeTimeout is how long RabbitMQ may leave what we send unread. It does
	// that to slow us down, for moments; a longer time means that nobody is
	// there, which TCP alone would notice after a quarter of an hour.
	writeTimeout = 20 * time.Second
	// While no member answers, the next try comes after firstWait, doubled up
	// to mostWait. A member that was killed is back, or replaced, in seconds.
	firstWait, mostWait = 100 * time.Millisecond, 5 * time.Second
	// closePatience is how long RabbitMQ gets to say goodbye.
	closePatience = 2 * time.Second
)

// connection is a connection to one member of the cluster, made when it is
// asked for and there is none.
type connection struct {
	b       *Broker
	purpose string
	ended   chan struct{} // closed by close

	watching sync.WaitGroup

	turn chan struct{} // holds one token; who has it may use what follows
	now  *session
	last int           // URL to try first: the one that answered last
	wait time.Duration // before the next try, 0 after a success
	next time.Time     // not before
	err  error         // why the last try failed
}

// session is one TCP connection, as long as it lives.
type session struct {
	*amqp.Connection
	wire    *wire
	blocked atomic.Pointer[blockage] // nil while RabbitMQ takes messages
}

// blockage is a time in which RabbitMQ does not take messages.
type blockage struct {
	reason string
	over   chan struct{}
}

func newConnection(b *Broker, purpose string) *connection {
	c := &connection{b: b, purpose: purpose, last: rand.IntN(len(b.config.URLs)), turn: make(chan struct{}, 1), ended: make(chan struct{})}
	c.turn <- struct{}{}
	return c
}

// session returns the connection that there is, or makes one. After a failed
// try it fails at once for a while: who asks has a pace of its own.
func (c *connection) session(ctx context.Context) (*session, error) {
	select {
	case <-c.turn:
	case <-c.ended:
		return nil, courante.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	select {
	case <-c.ended: // both were ready
		return nil, courante.ErrClosed
	default:
	}
	if c.now != nil && !c.now.IsClosed() {
		return c.now, nil
	}
	if time.Now().Before(c.next) {
		return nil, c.err
	}
	s, err := c.dial(ctx)
	if ctx.Err() != nil && err != nil {
		return nil, err // says nothing about the cluster
	}
	if err != nil {
		c.wait = min(max(2*c.wait, firstWait), mostWait)
		// All processes lost it at the same moment; they should not come back so.
		c.next, c.err = time.Now().Add(c.wait/2+rand.N(c.wait/2)), err
		return nil, err
	}
	c.now, c.wait = s, 0
	return s, nil
}

// dial tries the members in turn.
func (c *connection) dial(ctx context.Context) (*session, error) {
	login, err := c.b.config.login()
	if err != nil {
		return nil, courante.Transient(err)
	}
	urls := c.b.config.URLs
	var failures []error
	for i := range urls {
		at := (c.last + i) % len(urls)
		s, err := c.dialOne(ctx, urls[at], login)
		if err == nil {
			c.last = at
			c.watch(s, host(urls[at]))
			return s, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", host(urls[at]), err))
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to RabbitMQ: %w", ctx.Err())
		}
	}
	return nil, explain(fmt.Errorf("connect to RabbitMQ at %w", errors.Join(failures...)))
}

func (c *connection) dialOne(ctx context.Context, address string, login []amqp.Authentication) (*session, error) {
	properties := amqp.NewConnectionProperties()
	hostname, _ := os.Hostname() // only for people
	properties.SetClientConnectionName(fmt.Sprintf("%s %s on %s (%s)", c.b.config.Prefix, filepath.Base(os.Args[0]), hostname, c.purpose))
	var raw *wire
	config := amqp.Config{
		SASL: login, TLSClientConfig: c.b.config.TLS.Clone(), Heartbeat: c.b.config.Heartbeat, Properties: properties,
		Dial: func(network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn, err := c.b.config.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			raw = &wire{Conn: conn}
			// The library takes the deadline away after the handshake.
			return raw, conn.SetDeadline(time.Now().Add(dialTimeout))
		},
	}
	var conn *amqp.Connection
	err := unlessDone(ctx, func() (err error) {
		conn, err = amqp.DialConfig(address, config)
		if err != nil && raw != nil {
			raw.Close() // the library leaves it open after some failures
		}
		return err
	}, func() { conn.Close() })
	if err != nil {
		return nil, err
	}
	return &session{Connection: conn, wire: raw}, nil
}

// watch follows what RabbitMQ says about the connection.
func (c *connection) watch(s *session, address string) {
	log := c.b.log.With("connection", c.purpose, "address", address)
	log.Info("connected to RabbitMQ", "version", s.Properties["version"], "cluster", s.Properties["cluster_name"])
	blocked := s.NotifyBlocked(make(chan amqp.Blocking, 1))
	closed := s.NotifyClose(make(chan *amqp.Error, 1))
	c.watching.Go(func() {
		for state := range blocked { // ends with the connection
			before := s.blocked.Load()
			switch {
			case state.Active && before == nil:
				s.blocked.Store(&blockage{reason: state.Reason, over: make(chan struct{})})
				log.Warn("RabbitMQ takes no messages until it has room again", "reason", state.Reason)
			case !state.Active && before != nil:
				s.blocked.Store(nil)
				close(before.over)
				log.Info("RabbitMQ takes messages again")
			}
		}
		if before := s.blocked.Load(); before != nil {
			close(before.over)
		}
		if err := <-closed; err != nil {
			log.Warn("the connection to RabbitMQ is lost", "error", err)
		}
	})
}

// close ends the connection, for good.
func (c *connection) close() {
	close(c.ended)
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	if c.now != nil {
		_ = c.now.CloseDeadline(time.Now().Add(closePatience)) // closed either way
	}
	c.watching.Wait()
}

// channel opens a channel. RabbitMQ's answers can stay away for as long as the
// heartbeat allows; ctx does not wait for them.
func (c *connection) channel(ctx context.Context) (*session, *amqp.Channel, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, nil, err
	}
	var ch *amqp.Channel
	err = unlessDone(ctx, func() (err error) {
		ch, err = s.Channel()
		return err
	}, func() { ch.Close() })
	if err != nil {
		return nil, nil, explain(fmt.Errorf("open a channel: %w", err))
	}
	return s, ch, nil
}

// withChannel calls f with a channel that is not used for anything else, and
// again while RabbitMQ is at odds with itself.
func (b *Broker) withChannel(ctx context.Context, f func(*amqp.Channel) error) error {
	var wait backoff
	for try := 1; ; try++ {
		err := b.tryChannel(ctx, f)
		if try == unsettledTries || !unsettled(err) || ctx.Err() != nil {
			return err
		}
		b.log.InfoContext(ctx, "RabbitMQ is settling; trying again", "error", err)
		wait.sleep(ctx.Done())
	}
}

// unsettledTries is how often that is tried again, over some seconds.
const unsettledTries = 6

// unsettled reports whether the error is one that RabbitMQ gives while queues
// are made by several processes at once, or their members have not found one
// another yet.
func unsettled(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && (e.Code == amqp.InternalError || e.Code == amqp.ResourceLocked)
}

func (b *Broker) tryChannel(ctx context.Context, f func(*amqp.Channel) error) error {
	_, ch, err := b.consuming.channel(ctx)
	if err != nil {
		return err
	}
	return explain(unlessDone(ctx, func() error {
		defer ch.Close()
		return f(ch)
	}, nil))
}

// unlessDone calls f and waits for it, but no longer than ctx. f ends with the
// connection at the latest, and then undo is called if nobody waited and f
// succeeded.
func unlessDone(ctx context.Context, f func() error, undo func()) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if undo != nil {
		go func() {
			if <-done == nil {
				undo()
			}
		}()
	}
	return ctx.Err()
}

// refusedError says that RabbitMQ does not want us, or what we ask for. It does
// not pass by itself, but somebody may change it while we run.
type refusedError struct {
	err error
	fix string
}

func (e *refusedError) Error() string   { return e.err.Error() + ". " + e.fix }
func (e *refusedError) Unwrap() []error { return []error{e.err, courante.ErrTransient} }

// explain makes an error of the library one of ours.
func explain(err error) error {
	if err == nil || errors.Is(err, courante.ErrClosed) || errors.Is(err, courante.ErrTooLarge) || errors.Is(err, context.Canceled) {
		return err
	}
	if fix := tlsFix(err); fix != "" {
		return &refusedError{err, fix}
	}
	var e *amqp.Error
	if errors.As(err, &e) {
		switch e.Code {
		case amqp.AccessRefused:
			return &refusedError{err, "Check the user, its password (a file of it is read at each try), and that it may configure, write and read what begins with the prefix"}
		case amqp.NotAllowed:
			return &refusedError{err, "Check that the virtual host exists and that the user may use it"}
		case amqp.PreconditionFailed:
			return &refusedError{err, "It was made by another version of this program or by hand. Delete it, what it holds is sent again, or choose another prefix"}
		}
	}
	return courante.Transient(err)
}

// tlsFix says what to do about a failed handshake; "" if err is none.
func tlsFix(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	var e *amqp.Error
	switch {
	case errors.As(err, &unknown):
		return "The system does not know who signed the server's certificate: add ?cacertfile=FILE to the address"
	case errors.As(err, &name):
		return "Use the name that is in the server's certificate as the host, or add ?server_name_indication=NAME to the address"
	case errors.As(err, &invalid):
		return "Renew the server's certificate, or set the clock right"
	case errors.As(err, &plain):
		return "The port does not speak TLS: use RabbitMQ's TLS port, 5671 by default, or amqp:// instead of amqps://"
	case errors.As(err, &e) && strings.Contains(e.Reason, "remote error: tls: "):
		// What a server thinks of our certificate comes after the handshake, and
		// the client library keeps only the text of it.
		return "If the server wants a certificate of its clients, add ?certfile=FILE&keyfile=FILE to the address"
	}
	return ""
}

// host is the part of an address that may be shown.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Host
}

// backoff waits between tries that nobody else paces. A try waits longer than
// the one before it, up to mostWait.
type backoff struct{ wait time.Duration }

func (b *backoff) sleep(done <-chan struct{}) {
	b.wait = min(max(2*b.wait, firstWait), mostWait)
	timer := time.NewTimer(b.wait/2 + rand.N(b.wait/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}
