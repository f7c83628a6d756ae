package outside

import (
	"context"
	"errors"
	"time"
)

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Slow is how long a slow answer takes; default 2 s.
	Slow time.Duration

	// Late is how long a late charge takes; default 15 s. It is meant to be
	// longer than the caller's deadline.
	Late time.Duration

	// Now is the clock; default time.Now.
	Now func() time.Time

	// Wait lets the duration pass, or returns ctx's error when it ends first;
	// default a timer. A simulation, whose time stands still during a call,
	// passes a Wait of its own.
	Wait func(ctx context.Context, d time.Duration) error
}

func (c Config) withDefaults() Config {
	if c.Slow == 0 {
		c.Slow = 2 * time.Second
	}
	if c.Late == 0 {
		c.Late = 15 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wait == nil {
		c.Wait = wait
	}
	return c
}

// forever is how long somebody takes who never answers.
const forever = 1 << 62

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errNoReply is what a caller sees of a connection that breaks before the
// answer came through it.
var errNoReply = errors.New("connection reset before the reply")

// notDone is the answer of a party that did nothing, and says why.
type notDone string

func (e notDone) Error() string { return string(e) }

// NotDone says that the call was certainly not carried out.
func (notDone) NotDone() bool { return true }
