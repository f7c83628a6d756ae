package replay

import (
	"context"
	"time"
)

// pace holds requests back: to so many a second, or to the times of the file.
type pace struct {
	rate  float64 // requests a second, 0 is as fast as it goes
	speed float64 // times faster than the file, 0 is without its times

	begun time.Time
	first time.Time // the file's time at begun
	sent  int
}

// slow reports whether requests are held back at all.
func (p *pace) slow() bool { return p.rate > 0 || p.speed > 0 }

// wait returns when the next request is due, which happened at that time. One
// without a time is due at once.
func (p *pace) wait(ctx context.Context, at time.Time) error {
	if p.begun.IsZero() {
		p.begun = time.Now()
	}
	var due time.Duration
	if p.rate > 0 {
		due = time.Duration(float64(p.sent) / p.rate * float64(time.Second))
	}
	p.sent++
	if p.speed > 0 && !at.IsZero() {
		if p.first.IsZero() {
			p.first = at
		}
		due = max(due, time.Duration(float64(at.Sub(p.first))/p.speed))
	}
	if left := due - time.Since(p.begun); left > 0 {
		return sleep(ctx, left)
	}
	return ctx.Err()
}
