package app

import (
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
)

// heapTarget is how large the heap may grow before its garbage is collected. A
// busy program has some 30 MB that live and makes as much garbage several times
// a second, so that collecting at twice of what lives, Go's default, is a fifth
// of its work. With this it stays below 200 MB in all.
const heapTarget = 128 << 20

// collectSeldom lets garbage gather up to heapTarget, for the rest of the
// process, unless the environment says how it is to be collected. More may live
// than that; then it is as by default. A memory limit would not do: behind it the
// collector never rests.
func collectSeldom() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	percent := 100
	var afterEach func(int)
	afterEach = func(int) {
		live := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
		gometrics.Read(live)
		// Setting it stops the world, so only what makes a difference is set.
		if next := gcPercent(live[0].Value.Uint64()); next > percent+percent/8 || next < percent-percent/8 {
			percent = next
			debug.SetGCPercent(percent)
		}
		runtime.AddCleanup(new([16]byte), afterEach, 0)
	}
	afterEach(0)
}

// gcPercent is by how much a heap of which so much lives may grow.
func gcPercent(live uint64) int {
	const least, most = 100, 1000
	if live == 0 {
		return most
	}
	return int(min(max(heapTarget*100/live, least+100)-100, most))
}
