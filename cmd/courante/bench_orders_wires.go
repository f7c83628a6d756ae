package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/internal/rabbitserver"
	"github.com/courante-dev/courante/rabbitmq"
)

// wires are a RabbitMQ of the bench's own that events go over, and what counts
// them.
type wires struct {
	courante.Broker
	server *rabbitserver.Server

	messages, deliveries atomic.Int64 // sent; and the queues that they were for
	sent, received       atomic.Int64 // bytes, with all that the protocol says besides
}

// openWires starts a RabbitMQ that the services' events go over.
func (t *town) openWires(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "courante-bench-")
	if err != nil {
		return err
	}
	t.closers = append(t.closers, func() { _ = os.RemoveAll(dir) })
	t.db.p.Progress("starting RabbitMQ")
	w := &wires{}
	if w.server, err = rabbitserver.New(dir); err == nil {
		t.closers = append(t.closers, w.server.Remove)
		err = w.server.Start()
	}
	if err != nil {
		return fmt.Errorf("no RabbitMQ: %w; install it (Debian, Ubuntu: apt-get install rabbitmq-server)", err)
	}
	broker, err := rabbitmq.Open(ctx, rabbitmq.Config{URLs: []string{w.server.URL()}, Dial: w.dial, Logger: t.db.p.Log})
	if err != nil {
		return err
	}
	t.closers = append(t.closers, broker.Close)
	w.Broker, t.wires = broker, w
	return nil
}

// Publish counts what is sent.
func (w *wires) Publish(ctx context.Context, messages []courante.Message) error {
	w.messages.Add(int64(len(messages)))
	for i := range messages {
		w.deliveries.Add(int64(len(messages[i].Links)))
	}
	return w.Broker.Publish(ctx, messages)
}

func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, w}, nil
}

// countedConn counts the bytes that pass.
type countedConn struct {
	net.Conn
	w *wires
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.received.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.w.sent.Add(int64(n))
	return n, err
}
