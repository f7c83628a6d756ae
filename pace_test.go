package courante

import (
	"math/rand/v2"
	"slices"
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

// Calls that hang until they are given up are not a sign that there are too
// many: fewer at once would only leave fewer for those that are answered.
func TestPaceIsNotStarvedByCallsThatHang(t *testing.T) {
	t.Parallel()
	type call struct {
		end    time.Time
		took   time.Duration
		failed bool
	}
	now := time.Unix(0, 0)
	p := newPace(256)
	rnd := rand.New(rand.NewPCG(1, 0))
	var busy []call
	answered := 0
	for end := now.Add(time.Minute); now.Before(end); {
		for len(busy) < p.Limit() {
			c := call{took: 10 * time.Millisecond}
			if rnd.IntN(2) == 0 {
				c = call{took: 3 * time.Second, failed: true}
			}
			c.end = now.Add(c.took)
			busy = append(busy, c)
		}
		first := slices.MinFunc(busy, func(a, b call) int { return a.end.Compare(b.end) })
		busy = slices.Delete(busy, slices.Index(busy, first), slices.Index(busy, first)+1)
		now = first.end
		p.note(now, first.took, first.failed, true)
		if !first.failed {
			answered++
		}
	}
	// 256 at once answer 85 a second, 32 answer 11.
	if n := p.Limit(); n < 128 || answered < 60*40 {
		t.Errorf("half of the calls hang, and it makes %d at once, of which %d were answered in a minute", n, answered)
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
