package rabbitmq_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// line is the network between brokers and RabbitMQ.
type line struct {
	mu    sync.Mutex
	conns []*conn
	lost  []*conn // frozen
	shut  bool
}

func newLine(t *testing.T) *line {
	l := &line{}
	t.Cleanup(func() {
		for _, c := range l.lost {
			c.Conn.Close()
		}
	})
	return l
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, frozen: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		raw.Close()
		return nil, errors.New("no route to host")
	}
	l.conns = append(l.conns, c)
	return c, nil
}

// close refuses new connections, until open.
func (l *line) close() { l.set(true) }
func (l *line) open()  { l.set(false) }

func (l *line) set(shut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = shut
}

// cut breaks all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// freeze lets nothing through any more on the connections that there are, as
// when a machine or a firewall between has gone without a word.
func (l *line) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		close(c.frozen)
	}
	l.lost, l.conns = append(l.lost, l.conns...), nil
}

// conn is a connection that can freeze.
type conn struct {
	net.Conn
	frozen chan struct{}
}

// Read throws away what arrives once the connection is frozen, until its
// deadline.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		select {
		case <-c.frozen:
			if err == nil {
				continue
			}
		default:
		}
		return n, err
	}
}

// Write claims to have written, as the kernel does while it has room.
func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.frozen:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

// Close says nothing to the other end of a frozen connection.
func (c *conn) Close() error {
	select {
	case <-c.frozen:
		return c.Conn.SetDeadline(time.Now())
	default:
		return c.Conn.Close()
	}
}
