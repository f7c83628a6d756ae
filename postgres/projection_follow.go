package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

const (
	// lookAgain is how often a follower looks what generations there are, and
	// whether it is paused; one that carries nothing live on, more seldom.
	lookAgain     = time.Second
	lookAgainIdle = 10 * time.Second

	// recordPlace is how long a follower that finds nothing it wants keeps its
	// place to itself: readers in other processes wait for it.
	recordPlace = 250 * time.Millisecond

	// standBack is how long a follower leaves a generation to another process
	// that was faster. If that one has not moved by then, it is gone.
	standBack = 2 * time.Second

	// stepBatches bounds what one step folds while it catches up, about a
	// second of work, so that the actor hears when it is told to stop.
	stepBatches = 20
)

// logFollower implements courante.Follower.
type logFollower struct {
	store *Store
	p     courante.Projection
	logs  map[string]courante.ReadLog

	looked  time.Time // zero: look before the next step
	was     bool      // this program's version was live while it ran: what is live since is newer
	target  int64     // generation that is to become live, 0 if none is
	paused  bool
	failure string
	list    []*followed
	next    time.Time

	mu     sync.Mutex // guards places
	places map[string]courante.Cursor
}

// followed is a generation that the follower carries on.
type followed struct {
	*folder
	back     time.Time                  // not before; see standBack
	left     map[string]courante.Cursor // where another process was when it was faster
	recorded time.Time                  // when a place was last written down
	ran      time.Duration              // how long the last refresh of a view took
}

// Follow returns the follower of a projection; see [courante.SQLStore].
func (s *Store) Follow(p courante.Projection, logs map[string]courante.ReadLog) courante.Follower {
	return &logFollower{store: s, p: p, logs: logs, places: make(map[string]courante.Cursor)}
}

// Next is when there is something to do though no log grows.
func (f *logFollower) Next() time.Time { return f.next }

// Place is how far the live generation is, as this process knows.
func (f *logFollower) Place(log string) courante.Cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.places[log]
}

// Step carries each generation on by a piece; see [courante.Follower].
func (f *logFollower) Step(ctx context.Context) (worked bool, err error) {
	every := lookAgain
	if f.p.Kind() == courante.Inline {
		every = lookAgainIdle
	}
	if time.Since(f.looked) >= every {
		if err := f.look(ctx); err != nil {
			return false, translate(fmt.Sprintf("look at projection %s of %s", f.p.Name, f.store.name), err)
		}
	}
	f.next = f.looked.Add(every)
	if f.paused {
		return false, nil
	}
	for _, g := range f.list {
		moved, err := f.carry(ctx, g)
		switch {
		case errors.Is(err, courante.ErrFenced):
			g.stand(standBack)
		case errors.Is(err, errMoved):
			f.looked = time.Time{}
			moved = true
		case err != nil:
			g.lanes = nil
			return worked, f.failed(ctx, err)
		}
		worked = worked || moved
	}
	if worked && f.failure != "" {
		return worked, f.failed(ctx, nil)
	}
	return worked, nil
}

// look reads what generations of this program's version there are to carry on:
// the live one, unless it is inline; those that are ready, or kept as the way
// back; and the one that is to become live.
func (f *logFollower) look(ctx context.Context) error {
	err := f.store.db.pool.QueryRow(ctx, f.store.sql("select paused is not null, failure from {schema}.projection where name = $1"), f.p.Name).
		Scan(&f.paused, &f.failure)
	if errors.Is(err, pgx.ErrNoRows) { // a program that was started later does not declare it
		f.list, f.looked = nil, time.Now()
		return nil
	}
	if err != nil {
		return err
	}
	list, err := f.store.generations(ctx, f.store.db.pool, f.p.Name)
	if err != nil {
		return err
	}
	live := list.live()
	f.was = f.was || live != nil && live.Version == f.p.Version
	f.target = 0
	if (live == nil || !f.was) && f.p.Kind() != courante.Inline && !f.paused {
		if list, err = f.aim(ctx); err != nil {
			return err
		}
		live = list.live()
	}
	before := f.list
	f.list = nil
	for i := range list {
		g := &list[i]
		carried := g.State == stateReady || g.State == stateKept || g.State == stateLive && f.p.Kind() != courante.Inline
		if g.Version != f.p.Version || !carried && g.N != f.target {
			continue
		}
		f.list = append(f.list, f.follow(g, before))
	}
	if live == nil || live.Version != f.p.Version {
		f.mu.Lock()
		clear(f.places)
		f.mu.Unlock()
	}
	f.looked = time.Now()
	return nil
}

// aim has the program's version become live: one that is newer than what it finds
// live, or older and started again. One that was live while this program ran is
// not taken back: what came after it is a newer program's, or an operator's will.
func (f *logFollower) aim(ctx context.Context) (generations, error) {
	if f.p.Kind() == courante.View {
		if err := f.store.beginView(ctx, &f.p); err != nil {
			return nil, err
		}
	} else {
		g, err := f.store.begin(ctx, &f.p, false)
		if err != nil {
			return nil, err
		}
		f.target = g.N
	}
	return f.store.generations(ctx, f.store.db.pool, f.p.Name)
}

// follow returns what was followed before, if it is the same still.
func (f *logFollower) follow(g *generation, before []*followed) *followed {
	for _, old := range before {
		if old.g.N == g.N && old.g.Beside == g.Beside {
			old.g.State = g.State
			return old
		}
	}
	return &followed{folder: f.store.newFolder(&f.p, g, f.logs)}
}

// stand leaves the generation to somebody else for a while.
func (g *followed) stand(d time.Duration) {
	g.left = make(map[string]courante.Cursor, len(g.lanes))
	for log, lane := range g.lanes {
		g.left[log] = lane.Cursor
	}
	g.lanes, g.back = nil, time.Now().Add(d)
}

// mine reports whether the generation is this process's to carry on: another
// that was faster is left to it for as long as it moves.
func (f *logFollower) mine(ctx context.Context, g *followed) (bool, error) {
	if g.left == nil {
		return true, g.open(ctx)
	}
	if time.Now().Before(g.back) {
		return false, nil
	}
	if err := g.open(ctx); err != nil {
		return false, err
	}
	f.publish(g)
	for log, at := range g.left {
		if g.lanes[log].Cursor != at {
			g.stand(standBack)
			return false, nil
		}
	}
	g.left = nil
	return true, nil
}

// carry folds what there is for one generation.
func (f *logFollower) carry(ctx context.Context, g *followed) (moved bool, err error) {
	if mine, err := f.mine(ctx, g); err != nil || !mine {
		f.wake(g.back)
		return false, err
	}
	if f.p.Kind() == courante.View {
		return f.refresh(ctx, g)
	}
	if g.g.N == f.target {
		return true, f.build(ctx, g)
	}
	for log := range f.logs {
		b := g.read(ctx, log, g.lanes[log].Cursor)
		if b.err != nil {
			return moved, b.err
		}
		if b.to == g.lanes[log].Cursor {
			if g.lanes[log].unrecorded == 0 {
				continue
			}
			if time.Since(g.recorded) < recordPlace {
				f.wake(g.recorded.Add(recordPlace))
				continue
			}
			if err := g.record(ctx, log); err != nil {
				return moved, err
			}
			g.recorded = time.Now()
			continue
		}
		if err := g.commit(ctx, b); err != nil {
			return moved, err
		}
		moved = true
		f.publish(g)
	}
	f.publish(g)
	return moved, nil
}

func (f *logFollower) publish(g *followed) {
	if g.g.State != stateLive {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for log, lane := range g.lanes {
		f.places[log] = lane.Cursor
	}
}

func (f *logFollower) wake(at time.Time) {
	if at.Before(f.next) {
		f.next = at
	}
}

// build carries on a generation that is to become live, and makes it that when
// it has come to the end.
func (f *logFollower) build(ctx context.Context, g *followed) error {
	folded := 0
	if err := g.catchUp(ctx, stepBatches, func(*folder) { folded++ }); err != nil || folded >= stepBatches {
		return err
	}
	f.looked = time.Time{} // what comes of it is seen anew
	return f.store.finish(ctx, g.folder)
}

// failed writes down why the projection does not go on, for those who look at
// it; what passes by itself is not worth it.
func (f *logFollower) failed(ctx context.Context, err error) error {
	text, doing := "", fmt.Sprintf("carry on projection %s of %s", f.p.Name, f.store.name)
	if err != nil {
		if !strings.HasPrefix(err.Error(), "postgres: ") { // not translated where it arose
			err = translate(doing, err)
		}
		if errors.Is(err, courante.ErrTransient) || errors.Is(err, courante.ErrUnknownOutcome) || ctx.Err() != nil {
			return err
		}
		text = clean(err.Error())
	}
	if text != f.failure {
		_, saved := f.store.db.pool.Exec(ctx, f.store.sql("update {schema}.projection set failure = $2 where name = $1"), f.p.Name, text)
		if saved != nil {
			return errors.Join(err, translate(doing, saved))
		}
		f.failure = text
	}
	return err
}
