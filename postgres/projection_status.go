package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// ProjectionStatus is how a projection stands, as the database knows it: of any
// program.
type ProjectionStatus struct {
	Service     string
	Name        string
	Kind        courante.ProjectionKind
	Version     int       // of the live generation, 0 if there is none
	Paused      time.Time // zero: it is not
	PausedBy    string
	Failure     string // why it does not go on, "" if it does
	Generations []GenerationStatus
}

// GenerationStatus is one generation of a projection's tables.
type GenerationStatus struct {
	N        int64
	Version  int
	State    string // building, ready, live or kept
	Schema   string // that its tables are in
	Tables   []string
	Began    time.Time
	Built    time.Time // zero: not yet
	Switched time.Time // when it became live last; zero: never
	Logs     []LogLag  // none: it changes with the events, in their transaction
}

// LogLag is how far a generation is in a log.
type LogLag struct {
	Log    string
	Cursor courante.Cursor
	Done   int64         // events of the log behind the cursor, of one that began at the start
	Behind int64         // events that it wants and has not folded
	About  bool          // Behind is estimated, because it is more than were counted
	Lag    time.Duration // how old the oldest of them is
	Broken string        // the cursor does not fit the log any more, and why
}

// Live is the generation that queries read; ok is false if there is none.
func (p *ProjectionStatus) Live() (g GenerationStatus, ok bool) {
	for _, g := range p.Generations {
		if g.State == stateLive {
			return g, true
		}
	}
	return g, false
}

// Projections returns how the projections of the store's service stand, sorted
// by name.
func (s *Store) Projections(ctx context.Context) ([]ProjectionStatus, error) {
	doing := "look at the projections of " + s.name
	rows, err := s.db.pool.Query(ctx, s.sql(`
		select name, kind, version, coalesce(paused, '0001-01-01 00:00Z'), paused_by, failure
		from {schema}.projection order by name`))
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ProjectionStatus, error) {
		p := ProjectionStatus{Service: s.name}
		return p, row.Scan(&p.Name, &p.Kind, &p.Version, &p.Paused, &p.PausedBy, &p.Failure)
	})
	if err != nil {
		return nil, translate(doing, err)
	}
	for i := range list {
		p := &list[i]
		all, err := s.generations(ctx, s.db.pool, p.Name)
		if err != nil {
			return nil, translate(doing, err)
		}
		for j := range all {
			g, err := s.generationStatus(ctx, &all[j])
			if err != nil {
				return nil, translate(doing, err)
			}
			p.Generations = append(p.Generations, g)
		}
	}
	return list, nil
}

func (s *Store) generationStatus(ctx context.Context, g *generation) (GenerationStatus, error) {
	status := GenerationStatus{
		N: g.N, Version: g.Version, State: g.State, Schema: s.schemaOf(g), Tables: g.Tables,
		Began: g.Began.UTC(), Built: g.Built.UTC(), Switched: g.Switched.UTC(),
	}
	rows, err := s.db.pool.Query(ctx, s.sql("select log, types from {schema}.lane_epoch where subscriber = $1 order by log"), g.lane())
	if err != nil {
		return status, err
	}
	type follows struct {
		Log   string
		Types []string
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[follows])
	if err != nil {
		return status, err
	}
	for _, l := range list {
		lag, err := s.logLag(ctx, g, l.Log, courante.Projection{Types: l.Types})
		if errors.Is(err, courante.ErrNotFound) {
			continue // it was discarded just now
		}
		if err != nil {
			return status, err
		}
		status.Logs = append(status.Logs, lag)
	}
	return status, nil
}

// countedLag bounds how many events are read to count those that are missing.
const countedLag = 10_000

func (s *Store) logLag(ctx context.Context, g *generation, log string, filter courante.Projection) (LogLag, error) {
	lane, err := s.foldLane(ctx, g, log)
	if err != nil {
		return LogLag{}, err
	}
	l := LogLag{Log: log, Cursor: lane.Cursor, Done: lane.Events}
	source, err := s.db.Store(ctx, log)
	if err != nil {
		return l, err
	}
	at, read, last := lane.Cursor, 0, int64(0)
	for read < countedLag {
		events, to, err := source.ReadLog(ctx, at, countedLag)
		var broken *courante.LogBrokenError
		if errors.As(err, &broken) {
			l.Broken = broken.Reason
			return l, nil
		}
		if err != nil {
			return l, err
		}
		for i := range events {
			last = events[i].Position
			if !filter.Wants(events[i].Type) {
				continue
			}
			if l.Behind == 0 {
				l.Lag = time.Since(events[i].Time)
			}
			l.Behind++
		}
		if to == at {
			return l, nil
		}
		read, at = read+len(events), to
	}
	// Of what is behind those, the positions say about how much it is, and those
	// that were read how much of it is wanted.
	end, err := source.lastPosition(ctx)
	if err != nil {
		return l, err
	}
	if more := end - last; more > 0 {
		l.Behind += more * l.Behind / int64(read)
		l.About = true
	}
	return l, nil
}

// lastPosition is the highest position that the last tick has seen.
func (s *Store) lastPosition(ctx context.Context) (high int64, err error) {
	err = s.db.log.pool.QueryRow(ctx, "select coalesce((select high from "+s.db.schema+".tick where log = $1 order by n desc limit 1), 0)", s.name).Scan(&high)
	return high, err
}

// Place is how far in a log the live generation of a projection is; see
// [courante.SQLStore].
func (s *Store) Place(ctx context.Context, projection, log string) (courante.Cursor, error) {
	doing := fmt.Sprintf("look how far projection %s of %s is", projection, s.name)
	list, err := s.generations(ctx, s.db.pool, projection)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	live := list.live()
	if live == nil {
		return courante.Cursor{}, fmt.Errorf("postgres: %s: none is live: %w", doing, courante.ErrNotFound)
	}
	l, err := s.foldLane(ctx, live, log)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	paused, err := s.isPaused(ctx, projection)
	if err == nil && paused {
		err = courante.ErrPaused
	}
	return l.Cursor, translate(doing, err)
}

func (s *Store) isPaused(ctx context.Context, projection string) (paused bool, err error) {
	err = s.db.pool.QueryRow(ctx, s.sql("select paused is not null from {schema}.projection where name = $1"), projection).Scan(&paused)
	return paused, err
}
