package audit

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// readReplies checks that what a caller was told was written: the transaction
// of each remembered answer has events in the log, and the order that it names
// is there.
func (a *auditor) readReplies(ctx context.Context) error {
	c := a.checks.replies
	for _, s := range a.services {
		l := a.log(s)
		var n int
		if err := a.q.QueryRow(ctx, "select count(*) from "+l.schema+".reply").Scan(&n); err != nil {
			return err
		}
		c.LookedAt += n
		if n == 0 {
			continue
		}
		rows, err := a.q.Query(ctx, `
			select key, format('transaction %s of epoch %s has no events in the log', xid, epoch) from `+l.schema+`.reply r
			where xid <> '0' and not exists (select from `+l.schema+`.event e where e.epoch = r.epoch and e.xid = r.xid)
			union all
			select key, format('order %s is not in the log at version %s', body->>'order_id', coalesce(body->>'version', '1')) from `+l.schema+`.reply r
			where body->>'order_id' is not null and not exists (
				select from `+a.logs[names[ordering]].schema+`.event e
				where e.stream = 'order:' || (body->>'order_id') and e.version = coalesce((body->>'version')::bigint, 1))
			order by 1`)
		if err != nil {
			return err
		}
		var key, why string
		if _, err := pgx.ForEachRow(rows, []any{&key, &why}, func() error {
			c.wrong(l.label+".reply "+key, "%s", why)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
