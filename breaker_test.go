package courante

import (
	"errors"
	"testing"
	"time"
)

func TestBreakerOpensWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var b breaker
	failed := errors.New("no answer")
	for range breakAfter {
		if wait := b.wait(now, false); wait != 0 {
			t.Fatalf("after %d failures a call has to wait %s", b.failures, wait)
		}
		b.note(now, false, failed)
	}
	if b.wait(now, false) == 0 || !b.open() {
		t.Errorf("after %d failures in a row calls go on", breakAfter)
	}
	now = now.Add(breakMost)
	if b.wait(now, false) != 0 || b.wait(now, false) == 0 {
		t.Error("want one call that probes, and the others to wait for what comes of it")
	}
	b.note(now, false, nil)
	if b.wait(now, false) != 0 || b.open() {
		t.Error("it stays open although a call was answered")
	}
}

// Some calls may fail for reasons of their own, again and again; the others must
// not wait for them.
func TestBreakerIgnoresCallsThatFailAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var b breaker
	failed := errors.New("no answer")
	for range 10 * breakAfter {
		b.note(now, true, failed)
	}
	if b.open() {
		t.Error("calls that have failed before have opened it")
	}
	for range breakAfter {
		b.note(now, false, failed)
	}
	now = now.Add(breakMost)
	if b.wait(now, true) != 0 {
		t.Fatal("a repeated call may not probe")
	}
	if b.wait(now, false) != 0 {
		t.Error("a new call has to wait for the one that has failed before")
	}
	b.note(now, true, failed)
	if wait := b.wait(now.Add(breakMost), false); wait != 0 {
		t.Errorf("a new call has to wait for another %s because a repeated one failed", wait)
	}
}
