package courante_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// bell is a service with one command, on the store that wrap makes.
func bell(t *testing.T, wrap func(courante.Store) courante.Store) (rt *courante.Runtime, ring func(context.Context) error) {
	t.Helper()
	svc := courante.NewService("bell")
	svc.Emits(courante.Private, Opened{})
	rung := courante.Sourced[struct{}](svc, "ring")
	cmd := courante.NewCommand(svc, courante.Step{Name: "ring", Outcomes: []courante.Outcome{{Emits: courante.Types(Opened{})}}})
	db := memory.New(memory.Config{})
	rt, err := courante.NewRuntime(courante.Config{Database: db, Services: []courante.Mount{{Service: svc, Store: wrap(db.Store("bell"))}}})
	if err != nil {
		t.Fatal(err)
	}
	return rt, func(ctx context.Context) error {
		_, err := cmd.Do(ctx, courante.Call{
			Keys: []courante.Key{rung.Key("1")},
			Do:   func(d *courante.Decision) error { rung.Load(d, "1").Emit(Opened{}); return nil },
		})
		return err
	}
}

// TestCommandsWaitForRun: who starts the runtime and calls at once must neither
// fail nor poll.
func TestCommandsWaitForRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, ring := bell(t, func(s courante.Store) courante.Store { return s })
		impatient, leave := context.WithCancel(t.Context())
		early, gone := make(chan error, 1), make(chan error, 1)
		go func() { early <- ring(t.Context()) }()
		go func() { gone <- ring(impatient) }()
		synctest.Wait()
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left before the start got %v, want that it was cancelled", err)
		}
		select {
		case err := <-early:
			t.Fatalf("a command ended with %v before the runtime ran", err)
		default:
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- rt.Run(ctx) }()
		if err := <-early; err != nil {
			t.Errorf("the command that waited: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := ring(t.Context()); !errors.Is(err, courante.ErrClosed) {
			t.Errorf("a command after the stop: %v, want ErrClosed", err)
		}
	})
}

var errUnkept = errors.New("a table is missing")

// unkept is a store whose tables cannot be brought up to date. Nothing else of
// it is used before that.
type unkept struct{ courante.SQLStore }

func (unkept) Log() string { return "bell" }
func (unkept) Keep(context.Context, fs.FS, []courante.Projection) error {
	return errUnkept
}

// TestCommandsDoNotWaitForever: a runtime that cannot begin says so to those
// who wait for it.
func TestCommandsDoNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, ring := bell(t, func(courante.Store) courante.Store { return unkept{} })
		early := make(chan error, 1)
		go func() { early <- ring(t.Context()) }()
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute) // of the bubble's time
		defer stop()
		if err := rt.Run(ctx); !errors.Is(err, errUnkept) {
			t.Errorf("Run: %v, want what failed", err)
		}
		if err := <-early; !errors.Is(err, courante.ErrClosed) {
			t.Errorf("the command that waited: %v, want ErrClosed", err)
		}
	})
}
