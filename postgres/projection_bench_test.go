//go:build linux || darwin

package postgres

import (
	"fmt"
	"testing"

	"github.com/courante-dev/courante"
)

// BenchmarkBuild folds a log of 300,000 events into counts by category, as a
// rebuild does it.
func BenchmarkBuild(b *testing.B) {
	_, s := openTest(b)
	p := asyncTally(1)
	keepTally(b, s, p)
	const streams, events = 1000, 300
	var changes courante.Changes
	for i := range streams {
		changes.Events = append(changes.Events, eventsOf(fmt.Sprintf("category%d:%d", i%50, i), events).Events...)
		if len(changes.Events) >= 10_000 {
			if err := commit(b, s, changes); err != nil {
				b.Fatal(err)
			}
			changes.Events = nil
		}
	}
	mustTick(b, s.db)
	follow(b, followerOf(s, p))
	w := work(b, s, p)
	for b.Loop() {
		n := mustBuild(b, w)
		b.StopTimer()
		if err := s.DiscardGeneration(b.Context(), p.Name, n); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(streams*events*b.N)/b.Elapsed().Seconds(), "events/s")
}
