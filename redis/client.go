package redis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/courante-dev/courante"
	"github.com/redis/rueidis"
)

// Client is a process's access to Redis.
type Client struct {
	config  Config
	options rueidis.ClientOption
	log     *slog.Logger
	metrics *metrics
	flights flights
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	conn     atomic.Pointer[rueidis.Client] // nil: not connected yet
	failures atomic.Int32                   // reads and questions in a row that Redis did not answer
	last     atomic.Pointer[error]          // what the last of them failed with
	outage   outage                         // watch's
	why      atomic.Pointer[error]          // there is an outage; nil: there is none

	heard sync.Map // by key of a stream: the id of the message that was heard last

	mu     sync.Mutex // guards what follows
	leaves map[string]*leave
}

var (
	_ courante.Cache     = (*Client)(nil)
	_ courante.Broadcast = (*Client)(nil)
)

// openFailures is after how many reads in a row that fail all others go to the
// source of truth at once.
const openFailures = 3

// askEvery is how often the client asks by itself how things stand: what readers
// may use, and whether Redis answers.
const askEvery = 250 * time.Millisecond

// Open returns a client. A Redis that does not answer is no error, since a
// program has to be able to start, and runs, without it.
func Open(config Config) (*Client, error) {
	config.setDefaults()
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	c := &Client{config: config, log: config.Logger, leaves: map[string]*leave{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	var err error
	if c.options, err = c.config.options(); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if c.metrics, err = newMetrics(c); err != nil {
		return nil, err
	}
	c.ask()
	c.running.Go(c.watch)
	return c, nil
}

// Close ends the client. Nothing of it may be used after that.
func (c *Client) Close() {
	c.cancel()
	c.running.Wait()
	c.flights.wait()
	c.metrics.stop()
	if conn := c.conn.Load(); conn != nil {
		(*conn).Close()
	}
}

// Check says why reads go to the source of truth. It is nil if they do not, or
// only for a moment.
func (c *Client) Check(context.Context) error {
	if why := c.why.Load(); why != nil {
		return *why
	}
	return nil
}

// errNotConnected is what a client says that never reached Redis.
var errNotConnected = errors.New("redis: not connected")

// connection is nil as long as Redis was never reached.
func (c *Client) connection() (rueidis.Client, error) {
	if conn := c.conn.Load(); conn != nil {
		return *conn, nil
	}
	return nil, errNotConnected
}

// open reports whether the breaker is open: Redis is not asked for readers.
func (c *Client) open() bool { return c.failures.Load() >= openFailures || c.conn.Load() == nil }

// watch asks until the client is closed. It alone closes the breaker, so no
// reader waits to find out.
func (c *Client) watch() {
	poll := time.NewTicker(askEvery)
	defer poll.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-poll.C:
			c.ask()
		}
	}
}

// ask finds out whether Redis answers in time, and what readers may use.
func (c *Client) ask() {
	err := c.connect()
	if err == nil {
		err = c.askLeaves()
	}
	if c.ctx.Err() != nil {
		return
	}
	if err != nil {
		c.failed(err)
	}
	fine := err == nil && c.failures.Swap(0) < openFailures // for readers as well
	began, ended := c.outage.look(fine, c.conn.Load() == nil)
	if c.outage.is && !fine {
		why := c.explain(*c.last.Load())
		c.why.Store(&why)
	}
	switch {
	case began:
		c.log.Warn("Redis does not answer in time; reads go to the source of truth", "error", *c.why.Load())
	case ended:
		c.why.Store(nil)
		c.log.Info("Redis answers again")
	}
}

// explain says what to do about an error, where that is known.
func (c *Client) explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	answer, answered := rueidis.IsRedisErr(err)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("redis: %w. The system does not know who signed the server's certificate: add ?cacertfile=FILE to the address", err)
	case errors.As(err, &name):
		return fmt.Errorf("redis: %w. Use a name that is in the server's certificate as the host", err)
	case answered && (strings.HasPrefix(answer.Error(), "NOAUTH") || strings.HasPrefix(answer.Error(), "WRONGPASS")):
		return fmt.Errorf("redis: %w. Check the user and the password (a file of it is read at each connection)", err)
	case c.options.TLSConfig != nil && c.conn.Load() == nil:
		// A server that wants a certificate hangs up, one without TLS says nothing.
		return fmt.Errorf("redis: %w. Is that its port for TLS? If it wants a certificate of its clients, add ?certfile=FILE&keyfile=FILE to the address", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("redis: no answer within %s, which is what a reader waits for: %w", c.config.ReadTimeout, err)
	}
	return fmt.Errorf("redis: %w", err)
}

func (c *Client) connect() error {
	if c.conn.Load() != nil {
		return nil
	}
	conn, err := rueidis.NewClient(c.options)
	if err != nil {
		return err
	}
	c.conn.Store(&conn)
	return nil
}

// failed counts what Redis did not answer.
func (c *Client) failed(err error) {
	c.last.Store(&err)
	c.failures.Add(1)
}
