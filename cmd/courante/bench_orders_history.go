package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

// eventsOfOrder is how many events an order that goes well leaves in each log.
var eventsOfOrder = map[string]int{"ordering": 5, "inventory": 2, "payment": 3, "shipping": 3, "notification": 2}

// pastCategory is that of the streams of the past: no order is of it.
const pastCategory = "past"

// history fills the logs with events of the past, in parts that are closed and
// sealed, and has all services begin behind them.
func (t *town) history(ctx context.Context, events int) error {
	var sum int
	for _, n := range eventsOfOrder {
		sum += n
	}
	if events > 0 {
		t.db.p.Progress("writing %s events of the past", app.Thousands(events))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(t.mounts))
	for i, m := range t.mounts {
		wg.Go(func() {
			errs[i] = t.past(ctx, m.Store.(*postgres.Store), events*eventsOfOrder[m.Service.Name()]/sum)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write the past: %w", err)
	}
	return t.subscribeBehind(ctx)
}

// perTransaction is how many events of the past one transaction writes; each
// gets its tick.
const perTransaction = 100_000

// past writes and seals one log's. The rows are made in the server, whose
// position and transaction they get as those of any event.
func (t *town) past(ctx context.Context, store *postgres.Store, events int) error {
	if events == 0 {
		return nil
	}
	e := benchEvent()
	for first := 0; first < events; first += perTransaction {
		_, err := t.db.pool.Exec(ctx, `
			insert into `+store.Schema()+`.event_1 (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
			select 1, now(), 1, $1, 1, '`+pastCategory+`:' || i, $2, i::text, $3, '', $4, $5
			from generate_series($6::bigint, $7::bigint) i`,
			t.store.Epoch(), "shop.past", e.Causation, e.Trace, e.Data, first, min(first+perTransaction, events)-1)
		if err != nil {
			return err
		}
		if _, err := t.store.Tick(ctx); err != nil {
			return err
		}
	}
	n, err := store.ClosePart(ctx)
	if err != nil {
		return err
	}
	return store.SealPart(ctx, n)
}

// subscribeBehind has every service, and its agenda, begin at the heads of the
// logs: a system as old as its history has read it long ago.
func (t *town) subscribeBehind(ctx context.Context) error {
	heads := map[string]courante.Cursor{}
	emitter := map[string]string{}
	for _, m := range t.mounts {
		head, err := m.Store.Head(ctx)
		if err != nil {
			return err
		}
		name := m.Service.Name()
		heads[name] = head
		for _, e := range m.Service.Events() {
			emitter[e.Name] = name
		}
		err = m.Store.AddLaneEpoch(ctx, courante.LaneEpoch{Subscriber: courante.AgendaSubscriber(name), Log: name, N: 1, Lanes: courante.AgendaParts, From: head})
		if err != nil {
			return err
		}
	}
	for _, m := range t.mounts {
		sources := map[string]bool{}
		for _, step := range m.Service.Manifest().Steps {
			if from := emitter[step.Trigger]; step.On == "event" && from != "" && !sources[from] {
				sources[from] = true
				if err := courante.AddSubscriber(ctx, m.Store, from, heads[from], "bench"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
