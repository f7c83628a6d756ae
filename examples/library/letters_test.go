package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// TestReminder: the post office loses the first answer, and is asked again with
// the same key.
func TestReminder(t *testing.T) {
	t.Parallel()
	var keys []string
	letters := NewLetters(func(_ context.Context, key string, _ Letter) error {
		if keys = append(keys, key); len(keys) == 1 {
			return courante.Unknown(errors.New("no answer"))
		}
		return nil
	})
	courantetest.Given(t, letters).
		When(courantetest.Heard("l1", Overdue{"l1", "Emma", "Ann"})).
		Then(Written{"Ann"}).
		When(courantetest.Passed(time.Minute)).
		Then(Posted{})
	if len(keys) != 2 || keys[0] != keys[1] {
		t.Errorf("the post office got the keys %q, want one twice", keys)
	}
}
