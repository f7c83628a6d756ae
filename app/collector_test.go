package app

import "testing"

func TestGarbageGathersUpToATarget(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{
		0:              1000, // nothing was collected yet
		1 << 20:        1000,
		heapTarget / 5: 400,
		heapTarget / 2: 100,
		heapTarget * 9: 100, // as by default
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("of %d bytes that live the heap may grow by %d%%, want %d%%", live, got, want)
		}
	}
}
