//go:build linux || darwin

package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/courante-dev/courante/app"
)

var metricName = regexp.MustCompile(`\b(?:courante|http_server|process|go)_[a-z_]+[a-z]\b`)

// testTop looks at the running system as an operator does, and holds the table of
// metrics, the alert rules and the dashboard to what the program serves.
func testTop(t *testing.T, p *process) {
	out, said, code := p.run("top", "--once")
	if code != app.ExitOK {
		t.Fatalf("top: %d %s", code, said)
	}
	for _, want := range []string{"order ", "return ", "payment charge", "notification", "PostgreSQL: ", "CPU: programs "} {
		if !strings.Contains(out, want) {
			t.Errorf("top does not tell of %q:\n%s", want, out)
		}
	}

	served := map[string]bool{}
	for line := range strings.Lines(p.text("/metrics")) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "#" && fields[1] == "TYPE" {
			served[fields[2]] = true
		}
	}
	documented := map[string]bool{}
	for _, file := range []string{"docs/operations.md", "deploy/monitoring/alerts.yaml", "deploy/monitoring/dashboard.json"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, name := range found {
			if file == "docs/operations.md" {
				documented[name] = true
			}
			name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			// These have series only while something is set aside or held up, or
			// once somebody has watched.
			if rare := []string{
				"courante_parked_total", "courante_parked_messages", "courante_parked_age_seconds", "courante_journey_delayed_value",
				"courante_watch_watchers", "courante_watch_resyncs_total", "courante_broadcast_told_total", "courante_broadcast_skips_total",
			}; !served[name] && !slices.Contains(rare, name) {
				t.Errorf("%s names %s, which is not served", file, name)
			}
		}
	}
	for name := range served {
		if strings.HasPrefix(name, "courante_") && !documented[name] {
			t.Errorf("%s is served and not in docs/operations.md", name)
		}
	}
}

// testLabels has callers invent what they can, and counts the series: whatever
// they send, there are no more of them afterwards.
func testLabels(t *testing.T, p *process) {
	invent := func(i int) {
		p.call(http.MethodPost, fmt.Sprintf("/v1/inventory/sku-%d/receipts", i), `{"quantity": 1}`)
		p.call(http.MethodPost, "/v1/orders", fmt.Sprintf(`{"order_id": "label-%d", "customer_id": "c%d", "currency": "GBP", "lines": []}`, i, i))
		p.call(http.MethodGet, fmt.Sprintf("/v1/nothing-%d", i), "")
		p.call(fmt.Sprintf("VERB%d", i), "/v1/orders", "")
		p.call(http.MethodGet, fmt.Sprintf("/v1/sagas/none-%d", i), "")
	}
	series := func() (n int) {
		for line := range strings.Lines(p.text("/metrics")) {
			if strings.HasPrefix(line, "courante_command") || strings.HasPrefix(line, "http_") {
				n++
			}
		}
		return n
	}
	invent(0)
	before := series()
	for i := range 50 {
		invent(i + 1)
	}
	if after := series(); before == 0 || after != before {
		t.Errorf("got %d series, and %d before callers invented names", after, before)
	}
}
