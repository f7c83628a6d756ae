package audit

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// readOthers reads the streams that no other check has read, for what all
// streams have in common, and the stored states that belong to none.
func (a *auditor) readOthers(ctx context.Context) error {
	known := map[string]bool{names[inventory] + " stock": true}
	for i, name := range names {
		known[name+" "+orderCategory[i]], known[name+" "+returnCategory] = true, true
	}
	for _, s := range a.services {
		l := a.log(s)
		rows, err := a.q.Query(ctx, `
			with recursive c(s) as (
				(select stream from `+l.schema+`.event order by stream limit 1)
				union all
				select (select e.stream from `+l.schema+`.event e where e.stream >= split_part(c.s, ':', 1) || ';' order by e.stream limit 1)
				from c where c.s is not null
			) select split_part(s, ':', 1) from c where s is not null`)
		if err != nil {
			return err
		}
		categories, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, category := range categories {
			if known[l.name+" "+category] || slices.Contains(a.cfg.Except, category) {
				continue
			}
			if err := a.readCategory(ctx, l, category); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *auditor) readCategory(ctx context.Context, l *eventLog, category string) error {
	events, err := a.openEvents(ctx, l, category)
	if err != nil {
		return err
	}
	var list []event
	for {
		key, more, err := events.peek(ctx)
		if err != nil || !more {
			return err
		}
		if list, err = events.take(ctx, key, list[:0]); err != nil {
			return err
		}
		var p pending
		for i := range list {
			p.add(&list[i], a.checks.effects)
			p.ends(&list[i], a.checks.effects)
		}
	}
}
