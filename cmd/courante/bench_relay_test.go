//go:build linux

package main

import (
	"encoding/json"
	"testing"

	"github.com/courante-dev/courante/app"
)

// TestBenchRelayToRabbitMQ relays few events on real servers: all come, in
// order, and what it cost is more than nothing.
func TestBenchRelayToRabbitMQ(t *testing.T) {
	t.Parallel()
	out, errs, code := runHere(t, "bench", "relay", "--to", "rabbitmq", "-n", "3000", "--json", "--data", dataDir(t))
	var r relayedResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != app.ExitOK {
		t.Fatalf("exit code %d, %v: %s\n%s", code, err, out, errs)
	}
	if r.Checks != "ok" || r.Ratio <= 0 || r.CPUPer100k <= 0 || r.LimitCPUPer100k <= 0 {
		t.Errorf("got %+v", r)
	}
}

func TestBenchRelayRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-n", "0"}, {"--to", "kafka"}, {"--to", "rabbitmq", "--old-events", "10"}, {"--old-ticks", "1"}} {
		if _, errs, code := runHere(t, append([]string{"bench", "relay"}, args...)...); code != app.ExitUsage || errs == "" {
			t.Errorf("%v: got exit code %d and %q", args, code, errs)
		}
	}
}
