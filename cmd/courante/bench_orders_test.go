//go:build linux || darwin

package main

import (
	"encoding/json"
	"testing"

	"github.com/courante-dev/courante/app"
)

// TestBenchOrders runs the bench as people do, only shorter: every order has to
// end as its card says, and everything has to add up.
func TestBenchOrders(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"as many as go":   {"--under-way", "20", "--limit", "400", "--history", "1500"},
		"a rate":          {"--rate", "50", "--limit", "0", "--history", "0", "--keys", "--traces", "0.5", "--foreign-transaction"},
		"over RabbitMQ":   {"--under-way", "20", "--limit", "0", "--history", "1500", "--traces", "0", "--over", "rabbitmq"},
		"books on a disk": {"--under-way", "20", "--limit", "0", "--history", "0", "--outside", "postgres", "--traces", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"bench", "orders", "--json", "--data", dataDir(t), "--seconds", "1", "--warmup", "0"}, more...)
			out, errs, code := runHere(t, args...)
			var r ordersResult
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != app.ExitOK {
				t.Fatalf("exit code %d, %v: %s\n%s", code, err, out, errs)
			}
			if r.Checks != "ok" || r.Orders == 0 || r.Confirmed+r.Cancelled != r.Orders {
				t.Errorf("got checks %q of %d orders, %d confirmed and %d cancelled", r.Checks, r.Orders, r.Confirmed, r.Cancelled)
			}
		})
	}
}

func TestBenchOrdersRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--seconds", "0"}, {"--under-way", "0"}, {"--rate", "-1"}, {"--history", "-1"}, {"--traces", "2"},
	} {
		if _, errs, code := runHere(t, append([]string{"bench", "orders"}, args...)...); code != app.ExitUsage || errs == "" {
			t.Errorf("%v: got exit code %d and %q", args, code, errs)
		}
	}
}
