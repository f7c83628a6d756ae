package postgres

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A NOTIFY takes a lock that is held through its commit and makes all commits
// of the database wait for one another; in each append it costs a factor of
// eight. So it never runs in a transaction that does anything else, and at
// most once in notifyEvery per process, however often the process ticks.
const notifyEvery = 10 * time.Millisecond // about a tick; a reader's wait at most doubles

// Waits between attempts to listen again: the first is short, because most
// connections break by a restart of something in between.
const (
	relistenFirst = 50 * time.Millisecond
	relistenMost  = 2 * time.Second
)

// notifier tells other processes that this one has ticked, and hears it from
// them. It only saves polls: a notification that is lost costs the reader the
// wait for its next poll and nothing else. Idle, it does nothing.
type notifier struct {
	pool    *pgxpool.Pool
	config  *pgx.ConnConfig
	logger  *slog.Logger
	channel string
	process string        // tells our own notifications from others'
	ticked  chan struct{} // buffer of one

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	listening bool
	sending   bool // a goroutine is sending, or waits to be allowed to
	pending   bool // it should send once more
}

func newNotifier(pool *pgxpool.Pool, schema string, logger *slog.Logger, ticked chan struct{}) *notifier {
	ctx, cancel := context.WithCancel(context.Background())
	return &notifier{
		pool:    pool,
		config:  pool.Config().ConnConfig,
		logger:  logger,
		channel: tickChannel(schema),
		process: rand.Text(),
		ticked:  ticked,
		ctx:     ctx,
		cancel:  cancel,
	}
}

func tickChannel(schema string) string { return "courante_tick_" + schema }

// close stops listening and sending and returns when both have ended.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.wg.Wait()
}

// wake tells the others soon. It does not wait.
func (n *notifier) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = true
	if n.sending || n.closed {
		return
	}
	n.sending = true
	n.wg.Add(1)
	go n.send()
}

// send notifies at once, and then every notifyEvery for as long as there is
// something new to tell.
func (n *notifier) send() {
	defer n.wg.Done()
	pause := time.NewTicker(notifyEvery)
	defer pause.Stop()
	for n.take() {
		if _, err := n.pool.Exec(n.ctx, "select pg_notify($1, $2)", n.channel, n.process); err != nil && n.ctx.Err() == nil {
			n.logger.Debug("other processes were not notified of a tick; they find it with their next poll", "error", err)
		}
		select {
		case <-pause.C:
		case <-n.ctx.Done():
		}
	}
}

// take takes the pending notification; without one, or after close, sending ends.
func (n *notifier) take() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sending = n.pending && !n.closed
	n.pending = false
	return n.sending
}

// listen starts the listening connection, once.
func (n *notifier) listen() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listening || n.closed {
		return
	}
	n.listening = true
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		wait := relistenFirst
		for {
			heard, err := n.hear()
			if n.ctx.Err() != nil {
				return
			}
			if heard {
				wait = relistenFirst
			}
			n.logger.Warn("the connection that hears of other processes' ticks broke; readers poll until it is back", "error", err, "retry", wait)
			select {
			case <-time.After(wait):
			case <-n.ctx.Done():
				return
			}
			wait = min(2*wait, relistenMost)
		}
	}()
}

// hear listens over a new connection until it breaks, and says whether it
// ever worked.
func (n *notifier) hear() (heard bool, err error) {
	conn, err := pgx.ConnectConfig(n.ctx, n.config.Copy())
	if err != nil {
		return false, err
	}
	// The server notices a closed connection by itself; a second's wait only
	// serves a clean goodbye, and n.ctx is over by then.
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(n.ctx, "listen "+pgx.Identifier{n.channel}.Sanitize()); err != nil {
		return false, err
	}
	// Ticks may have passed while nobody listened.
	n.signal()
	for {
		notification, err := conn.WaitForNotification(n.ctx)
		if err != nil {
			return true, err
		}
		if notification.Payload != n.process {
			n.signal()
		}
	}
}

func (n *notifier) signal() {
	select {
	case n.ticked <- struct{}{}:
	default:
	}
}
