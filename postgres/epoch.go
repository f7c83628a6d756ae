package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// currentEpoch returns the number of the cluster's incarnation that conn is
// connected to, recording it first if it is new. schema is quoted.
func currentEpoch(ctx context.Context, conn *pgx.Conn, schema string) (int32, error) {
	const doing = "determine the epoch"
	_, err := conn.Exec(ctx, `
		insert into `+schema+`.epoch (n, system_identifier, timeline)
		select coalesce((select max(n) from `+schema+`.epoch), 0) + 1, s.system_identifier, c.timeline_id
		from pg_control_system() s, pg_control_checkpoint() c
		on conflict do nothing`)
	if err != nil {
		return 0, translate(doing, err)
	}
	var n int32
	err = conn.QueryRow(ctx, `
		select e.n
		from `+schema+`.epoch e, pg_control_system() s, pg_control_checkpoint() c
		where e.system_identifier = s.system_identifier and e.timeline = c.timeline_id`).Scan(&n)
	return n, translate(doing, err)
}
