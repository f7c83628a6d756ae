// Package replay sends the recorded orders of a shop to a running system,
// through its public HTTP API, and accounts for every line of the recording.
//
// A file is read twice: [Run] first checks all of it and counts what it has,
// then sends it. What one invoice or record asks for is a step. Steps go in the
// order of the file where they concern the same order, customer or stock, and
// side by side otherwise. Every request has an idempotency key made of the
// file's hash and a line number, so that it is done once however often it is
// sent: a run that was interrupted is finished by running it again, and there
// is no state beside the file that could be lost or wrong.
//
// Memory holds what is under way, and of the file a place for each invoice,
// each SKU and each line that a known customer bought (a return is matched to
// them): less than 200 MB for half a million lines.
package replay

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Config says what to replay, and how.
type Config struct {
	File  string    // "-" is Stdin
	Stdin io.Reader // read only if File is "-"
	URL   string    // of the system, without a slash at its end

	// Stock is how many pieces of each SKU are received first: nil is as many
	// as the file's orders take, and none for NDJSON, which has receipts of its
	// own.
	Stock *int64

	Rate        float64 // invoices or records a second; 0 is as fast as it goes
	Speed       float64 // times faster than the file's own times; 0 is without them
	Limit       int     // invoices or records; 0 is all
	Concurrency int     // requests at once, and in proportion orders on their way

	// Patience is how long a request is repeated while the system does not
	// answer, and how long an order may stand still, before it is given up.
	Patience time.Duration

	// Progress hears several times a second how far it is; nil: nobody does.
	Progress func(Progress)
}

// Run replays a file. It returns a report of all that was sent also beside an
// error, and no report if nothing was.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = cfg.Concurrency, cfg.Concurrency
	defer transport.CloseIdleConnections()
	return run(ctx, cfg, &http.Client{Transport: transport})
}

func run(ctx context.Context, cfg Config, h *http.Client) (*Report, error) {
	f, err := openFile(cfg.File, cfg.Stdin)
	if err != nil {
		return nil, err
	}
	defer f.close()
	o, err := f.scan(cfg.Limit)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	e := newEngine(cfg, o, h)
	stopProgress := e.tell(cfg.Progress, o, begun)
	err = e.replay(ctx, cfg, f, o)
	stopProgress()
	return e.report(cfg, o, time.Since(begun), err == nil), err
}

func newEngine(cfg Config, o *outline, h *http.Client) *engine {
	e := &engine{
		hash:     o.hash,
		account:  newAccount(),
		ledger:   newLedger(),
		sequence: newSequence(),
		waiting:  make(chan struct{}, maxWaiting),
		underWay: make(chan struct{}, underWayEach*cfg.Concurrency),
	}
	e.client = &client{http: h, url: cfg.URL, patience: cfg.Patience, slots: make(chan struct{}, cfg.Concurrency), trouble: e.trouble.set}
	e.watcher = newWatcher(e.client)
	return e
}

// replay sends everything and waits for every end.
func (e *engine) replay(ctx context.Context, cfg Config, f *file, o *outline) error {
	ctx, e.stop = context.WithCancelCause(ctx)
	defer e.stop(nil)
	err := e.receive(ctx, cfg.Stock, o)
	if err == nil {
		err = e.send(ctx, cfg, f, o)
	}
	e.work.Wait()
	if err == nil && ctx.Err() == nil {
		err = e.watcher.settle(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // the first failure; all others follow from it
	}
	return err
}

func (e *engine) send(ctx context.Context, cfg Config, f *file, o *outline) error {
	src, err := f.open()
	if err != nil {
		return err
	}
	defer src.close()
	if _, err := src.format(); err != nil {
		return err
	}
	steps := o.invoiceSteps(src, e.account)
	if o.format == ndjson {
		steps = o.recordSteps(src, cfg.Limit, e.account)
	}
	if err := e.feed(ctx, steps, &pace{rate: cfg.Rate, speed: cfg.Speed}, o.first); err != nil {
		e.stop(err)
		return err
	}
	if src.sum() != o.hash {
		return errChanged
	}
	return nil
}

// Interrupted reports whether err only says that somebody stopped the replay.
func Interrupted(err error) bool { return errors.Is(err, context.Canceled) }
