package courante

import (
	"testing"
	"time"
)

// otherSide makes calls for a pace, in virtual time: so many at once take what
// the function says.
func otherSide(p *pace, now *time.Time, windows int, took func(atOnce int) (time.Duration, bool)) {
	for range windows {
		for end := now.Add(paceWindow); now.Before(end); {
			atOnce := p.Limit()
			d, failed := took(atOnce)
			*now = now.Add(d)
			for range atOnce {
				p.note(*now, d, failed, true)
			}
		}
	}
}

func TestPaceFindsHowManyCallsAtOnceAreWorthIt(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	p := newPace(256)
	// 80 calls are served side by side, each in 50 ms; more wait in a line.
	served := func(atOnce int) (time.Duration, bool) {
		return 50 * time.Millisecond * time.Duration(max(80, atOnce)) / 80, false
	}
	otherSide(p, &now, 30, served)
	if n := p.Limit(); n < 64 || n > 128 {
		t.Errorf("of an other side that serves 80 calls at once it makes %d", n)
	}
	if s := p.drain(160); s < 0.04 || s > 0.3 {
		t.Errorf("160 calls drain in %.3f s, want about 0.1", s)
	}

	// It recovers from trouble by itself.
	otherSide(p, &now, 10, func(int) (time.Duration, bool) { return 50 * time.Millisecond, true })
	if n := p.Limit(); n != paceLeast {
		t.Errorf("while all calls fail it makes %d at once, want %d", n, paceLeast)
	}
	otherSide(p, &now, 60, served)
	if n := p.Limit(); n < 64 || n > 128 {
		t.Errorf("after the trouble it makes %d at once", n)
	}
}

func TestPaceStaysWhereNobodyWaits(t *testing.T) {
	t.Parallel()
	p := newPace(256)
	now := time.Unix(0, 0)
	for range 10_000 {
		now = now.Add(time.Millisecond)
		p.note(now, 5*time.Millisecond, false, false)
	}
	if n := p.Limit(); n != paceFirst {
		t.Errorf("the limit is %d, want %d as in the beginning", n, paceFirst)
	}
	if p := newPace(3); p.Limit() != 3 {
		t.Errorf("the limit is %d, want the 3 that are allowed", p.Limit())
	}
}
