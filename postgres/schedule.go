package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PartPolicy says when the open part of a log has had enough.
type PartPolicy struct {
	Size int64         // bytes on disk from which on it is closed; 0: however large it is
	Age  time.Duration // how long after it began it is closed, if it has events; 0: however old it is
}

// sealAfter is how long after it was closed a part is sealed at the earliest:
// by then its last events have their ticks, and the tokens of their commands
// were used.
const sealAfter = 10 * time.Minute

// MaintainParts closes the open part if it is due, and seals the closed ones
// that every subscriber in this database is past, so that rewriting them takes
// nothing from anybody who reads. It detaches nothing: that is for a person to
// decide. Several processes may call it; while one of them is at it, the others
// have nothing to do.
func (s *Store) MaintainParts(ctx context.Context, now time.Time, policy PartPolicy) error {
	err := s.tryParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		open := parts[len(parts)-1]
		due, err := s.partDue(ctx, conn, open, now, policy)
		if err != nil {
			return err
		}
		if due {
			if err := s.closePart(ctx, conn, open.N); err != nil {
				return err
			}
			s.db.config.Logger.Info("part closed", "log", s.name, "part", open.N)
		}
		for i := range parts {
			p := &parts[i]
			if !p.Sealed.IsZero() {
				continue
			}
			if p.Closed.IsZero() || now.Sub(p.Closed) < sealAfter {
				return nil
			}
			end, err := s.endTick(ctx, *p)
			if err != nil {
				return err
			}
			if behind, err := s.lanesBehind(ctx, conn, end); err != nil || len(behind) > 0 {
				return err
			}
			if err := s.sealIn(ctx, conn, parts, p.N); err != nil {
				return err
			}
			s.db.config.Logger.Info("part sealed", "log", s.name, "part", p.N)
			if parts, err = s.readParts(ctx, conn); err != nil {
				return err
			}
		}
		return nil
	})
	return translate("maintain the parts of log "+s.name, err)
}

func (s *Store) partDue(ctx context.Context, q queryer, p Part, now time.Time, policy PartPolicy) (bool, error) {
	var size int64
	var used bool
	err := q.QueryRow(ctx, "select pg_total_relation_size($1::regclass), exists (select from "+s.partTable(p.N)+")", s.partTable(p.N)).Scan(&size, &used)
	return used && (policy.Size > 0 && size >= policy.Size || policy.Age > 0 && now.Sub(p.Began) >= policy.Age), err
}

// endTick is the tick of a part's last event; of one that is not sealed, a tick
// a little after it.
func (s *Store) endTick(ctx context.Context, p Part) (int64, error) {
	if !p.Sealed.IsZero() {
		return p.LastTick, nil
	}
	c, err := s.At(ctx, p.Closed.Add(time.Minute))
	return c.Tick, err
}

// PartUsage is what there is to know of a part before deciding on it.
type PartUsage struct {
	Part
	Events int64
	Ticks  int64
	Bytes  int64    // on disk, with indexes
	Gone   bool     // it is detached and its table is not in the database any more
	Behind []string // lanes that are not past it; of the open part, none are listed
}

// PartUsages lists the parts of the log with what they hold and who needs them.
// It counts the events of those that are not sealed, which may take a while.
func (s *Store) PartUsages(ctx context.Context) ([]PartUsage, error) {
	doing := "list the parts of log " + s.name
	parts, err := s.Parts(ctx)
	if err != nil {
		return nil, err
	}
	var list []PartUsage
	for _, p := range parts {
		u := PartUsage{Part: p, Ticks: p.LastTick - p.FirstTick + 1}
		there, err := s.db.hasTable(ctx, s.schema, fmt.Sprintf("event_%d", p.N))
		if err != nil {
			return nil, err
		}
		u.Gone = !there
		if err := s.measure(ctx, &u); err != nil {
			return nil, translate(doing, err)
		}
		if !p.Closed.IsZero() && p.Detached.IsZero() {
			end, err := s.endTick(ctx, p)
			if err != nil {
				return nil, err
			}
			if u.Behind, err = s.lanesBehind(ctx, s.db.pool, end); err != nil {
				return nil, translate(doing, err)
			}
		}
		list = append(list, u)
	}
	return list, nil
}

func (s *Store) measure(ctx context.Context, u *PartUsage) error {
	var events *int64
	err := s.db.pool.QueryRow(ctx, s.inSchema("select events from {schema}.part where n = $1"), u.N).Scan(&events)
	if err != nil {
		return err
	}
	if events != nil {
		u.Events = *events
	}
	if !u.Gone {
		batch := &pgx.Batch{}
		batch.Queue("select pg_total_relation_size($1::regclass)", s.partTable(u.N)).QueryRow(func(row pgx.Row) error { return row.Scan(&u.Bytes) })
		if events == nil {
			batch.Queue("select count(*) from " + s.partTable(u.N)).QueryRow(func(row pgx.Row) error { return row.Scan(&u.Events) })
		}
		if err := s.db.pool.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
	}
	if u.Sealed.IsZero() {
		return s.db.pool.QueryRow(ctx, "select count(*) from "+s.db.schema+".tick where log = $1 and at >= $2 and ($3 or at < $4)",
			s.name, u.Began, u.Closed.IsZero(), u.Closed).Scan(&u.Ticks)
	}
	return nil
}
