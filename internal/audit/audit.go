// Package audit looks whether everything that the shop has written adds up: its
// logs, lanes, states and read models, and the books of the payment provider
// and the carrier. It changes nothing.
//
//	report, err := audit.Run(ctx, tx, audit.Config{Manifests: manifests})
//
// It reads tables and declarations, and calls no code of a context: it has its
// own small structs for the JSON, its own fold of a state, its own idea of what
// a confirmed order means for the money. So a bug of a context cannot hide
// itself behind the same bug here. Of package courante it uses formats only:
// how a key is spread over lanes, what a tick's hash is.
//
// Whoever calls it gives it a transaction with one snapshot of everything, so
// that nothing that is under way looks wrong: an effect that is open explains
// why the provider has a charge that our log does not know yet.
//
// Tables are read once, in the order of the orders' ids, through server-side
// cursors that are merged; see [cursor]. So all that is known of one order is
// in memory at a time, and beside it the ticks, the last place of each lane and
// the goods of each order.
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/courante-dev/courante"
)

// Querier is a transaction: [pgx.Tx]. It is an interface because a test wants
// to try a corruption and roll it back.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config says what to look at. The zero value of a field means its default.
type Config struct {
	// Manifests are the declarations of the contexts. Required.
	Manifests []courante.Manifest

	// Stopped says that nothing runs on the database: what is overdue is then
	// told by the moment at which something last happened and not by the clock.
	Stopped bool

	// Mails is the folder of the mails; "" if there is none to look at.
	Mails string

	// Except are categories of streams that are not the shop's, and not looked at.
	Except []string

	// Progress is told now and then how many orders were looked at. May be nil.
	Progress func(orders int)
}

// grace is how late something may be before it counts as overdue. It is that of
// courante.SagaGrace: an operator should not get two answers.
const grace = courante.SagaGrace

// schema is the schema of the database's ticker.
const schema = "courante"

// auditor is one run.
type auditor struct {
	q        Querier
	cfg      Config
	now      time.Time // of the database
	clock    time.Time // by which something is overdue
	checks   checks
	orders   Orders
	services []*service // in the order of the manifests
	logs     map[string]*eventLog
	lanes    lanes
	parked   map[string][]parked // by subscriber and event, see parkedKey
	stock    stock
	money    money
	mails    mails
	listAt   place // how far the list of orders is in their log
}

// Run looks at everything and reports what it found. An error means that it
// could not look.
func Run(ctx context.Context, q Querier, cfg Config) (*Report, error) {
	began := time.Now()
	a := &auditor{q: q, cfg: cfg, checks: newChecks(), logs: map[string]*eventLog{}, money: money{}}
	if len(cfg.Manifests) == 0 {
		return nil, errors.New("audit: Config.Manifests is empty")
	}
	for _, m := range cfg.Manifests {
		s, err := newService(m)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		a.services = append(a.services, s)
	}
	for _, step := range []struct {
		doing string
		run   func(context.Context) error
	}{
		{"read the clock", a.readClock},
		{"read the logs", a.readLogs},
		{"read the ticks", a.readTicks},
		{"read the lanes", a.readLanes},
		{"read what is parked", a.readParked},
		{"read the mails", a.readMails},
		{"read the orders", a.readOrders},
		{"read the stock", a.readStock},
		{"read the other streams", a.readOthers},
		{"read the baselines", a.readSnapshots},
		{"look for mails that nobody asked for", a.checkOtherMails},
		{"read the books", a.readTotals},
		{"read the replies", a.readReplies},
	} {
		if err := step.run(ctx); err != nil {
			return nil, fmt.Errorf("audit: %s: %w", step.doing, err)
		}
	}
	return a.report(time.Since(began)), nil
}

// readClock finds out what time it is. Of a system that is stopped, it is the
// time at which it last did something: what it left under way goes on when it
// is started.
func (a *auditor) readClock(ctx context.Context) error {
	if err := a.q.QueryRow(ctx, "select now()").Scan(&a.now); err != nil {
		return err
	}
	a.clock = a.now
	if !a.cfg.Stopped {
		return nil
	}
	var last *time.Time
	if err := a.q.QueryRow(ctx, "select max(at) from "+schema+".tick").Scan(&last); err != nil {
		return err
	}
	if last != nil {
		a.clock = *last
	}
	return nil
}

// late reports whether something that was to happen by a time is overdue.
func (a *auditor) late(due time.Time) bool { return a.clock.Sub(due) > grace }

// exists reports whether there is such a table.
func (a *auditor) exists(ctx context.Context, table string) (there bool, err error) {
	err = a.q.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&there)
	return there, err
}
