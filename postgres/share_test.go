package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// Processes come, go and die; whatever there is to hold has one holder, and the
// parts differ by one at most.
func TestShareDividesAndTakesOver(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	names := []string{"lane/0", "lane/1", "lane/2", "lane/3", "agenda"}
	held := map[string][]string{}
	claim := func(process string, leases time.Duration) courante.Shares {
		t.Helper()
		got, err := s.Share(t.Context(), courante.Claim{Process: process, For: leases, Names: names, Keep: held[process]})
		if err != nil {
			t.Fatal(err)
		}
		// As a process does: what is too much is given back the next time.
		slices.Sort(got.Held)
		held[process] = got.Held[:min(got.Part, len(got.Held))]
		return got
	}
	settle := func(leases time.Duration, processes ...string) {
		t.Helper()
		for range 3 {
			for _, p := range processes {
				claim(p, leases)
			}
		}
		var all []string
		for _, p := range processes {
			if n := len(held[p]); n < len(names)/len(processes) || n > (len(names)-1)/len(processes)+1 {
				t.Errorf("of %d processes %s holds %d of %d", len(processes), p, n, len(names))
			}
			all = append(all, held[p]...)
		}
		slices.Sort(all)
		if want := slices.Sorted(slices.Values(names)); !slices.Equal(all, want) {
			t.Errorf("held by %v: %v, want each of %v once", processes, all, want)
		}
	}
	settle(time.Hour, "a")
	settle(time.Hour, "a", "b")
	settle(time.Hour, "a", "b", "c")
	before := slices.Clone(held["b"])
	settle(time.Hour, "a", "b", "c")
	if !slices.Equal(before, held["b"]) {
		t.Errorf("b held %v and holds %v, though nothing has changed", before, held["b"])
	}
	claim("c", 0) // it leaves
	settle(time.Hour, "a", "b")
	claim("b", time.Microsecond) // and b dies
	settle(time.Hour, "a")
}
