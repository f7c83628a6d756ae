package courante_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// deafDatabase can be told not to answer its ticker.
type deafDatabase struct {
	courante.Database
	deaf atomic.Bool
}

func (d *deafDatabase) Tick(ctx context.Context) ([]string, error) {
	if d.deaf.Load() {
		return nil, courante.Transient(errors.New("no answer"))
	}
	return d.Database.Tick(ctx)
}

func TestTickerHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New(memory.Config{})
		db := &deafDatabase{Database: inner}
		svc := courante.NewService("from")
		svc.Emits(courante.Critical, routedCritical{})
		rt, err := courante.NewRuntime(courante.Config{
			Database: db, Services: []courante.Mount{{Service: svc, Store: inner.Store("from")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		healthy := func(when string, want bool) {
			t.Helper()
			if err := rt.CheckTicker(); (err == nil) != want {
				t.Errorf("%s: got %v, want healthy: %v", when, err, want)
			}
			if err := rt.CheckLanes(); err != nil {
				t.Errorf("%s: a lane stopped: %v", when, err)
			}
		}
		healthy("before the start", false)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := rt.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		healthy("after the start", true)
		time.Sleep(time.Hour) // of the bubble's time
		healthy("after an idle hour", true)
		db.deaf.Store(true)
		time.Sleep(5 * time.Second)
		healthy("after a hiccup of the database", true)
		time.Sleep(time.Minute)
		healthy("while the database does not answer", false)
		db.deaf.Store(false)
		time.Sleep(10 * time.Second)
		healthy("when it answers again", true)
		cancel()
		wg.Wait()
		healthy("after the end", false)
	})
}
