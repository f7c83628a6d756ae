//go:build linux || darwin

package main

import (
	"encoding/json"
	"testing"

	"github.com/courante-dev/courante/app"
)

// TestBenchRebuild runs the bench as people do, only shorter: both models have
// to have every event, of a log that is sealed and of one that is not.
func TestBenchRebuild(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	for _, more := range [][]string{nil, {"--sealed"}} {
		out, errs, code := runHere(t, append([]string{"bench", "rebuild", "--json", "--data", data, "-n", "12000"}, more...)...)
		var r rebuildResult
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != app.ExitOK {
			t.Fatalf("exit code %d, %v: %s\n%s", code, err, out, errs)
		}
		if r.Checks != "ok" || r.Sealed != (more != nil) || len(r.Models) != 2 {
			t.Fatalf("%v: got checks %q of %d models, sealed %v", more, r.Checks, len(r.Models), r.Sealed)
		}
		if rows := r.Models[1].Rows; rows != 3000 { // 1,500 orders with all events, and 1,500 with three
			t.Errorf("%v: got %d rows of orders, want 3,000", more, rows)
		}
	}
}

func TestBenchRebuildRefuses(t *testing.T) {
	t.Parallel()
	if _, errs, code := runHere(t, "bench", "rebuild", "-n", "0"); code != app.ExitUsage || errs == "" {
		t.Errorf("got exit code %d and %q", code, errs)
	}
}
