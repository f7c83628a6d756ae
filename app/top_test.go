package app

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMetricsAreRead(t *testing.T) {
	t.Parallel()
	const text = `# HELP a_total something
# TYPE a_total counter
a_total{step="note \"x\", {y}\\",service="s"} 3
a_total{service="t"} 4.5e+01

plain 1
h_bucket{le="+Inf"} 2
`
	list, err := parseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	m := metrics{list, list}
	if got := m.sum("a_total", map[string]string{"step": `note "x", {y}\`}); got != 6 {
		t.Errorf("got %v, want 3 of each program", got)
	}
	if got := m.max("a_total", nil); got != 45 {
		t.Errorf("got %v, want 45", got)
	}
	if got := m.buckets("h", nil); got[math.Inf(1)] != 4 {
		t.Errorf("got %v, want 4 beyond every bound", got)
	}
	for _, bad := range []string{"name", `name{a="b} 1`, "name x", `name{a} 1`, "<html> 1 2 {"} {
		if _, err := parseMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for metrics", bad)
		}
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	buckets := map[float64]float64{1: 10, 2: 90, 4: 100, math.Inf(1): 100}
	for q, want := range map[float64]float64{0.05: 0.5, 0.5: 1.5, 0.95: 3, 1: 4} {
		if got := quantile(buckets, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("q %v: got %v, want %v", q, got, want)
		}
	}
	if got := quantile(map[float64]float64{1: 0, math.Inf(1): 5}, 0.5); got != 1 {
		t.Errorf("beyond the last bound: got %v, want the bound", got)
	}
	if got := quantile(minus(map[float64]float64{1: 2}, map[float64]float64{1: 5}), 0.5); got != 0 {
		t.Errorf("a program began anew: got %v, want 0", got)
	}
}

// troubled is a system with much that is wrong.
func troubled() *Top {
	t := &Top{
		At:       time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local),
		Programs: []TopProgram{{URL: "http://127.0.0.1:8080"}},
		Logs:     []TopLog{{"ordering", 120}, {"payment", 60}},
		Sagas: []TopSaga{{Saga: "order", UnderWay: 40, Overdue: 7, P50: 0.2, P99: 12,
			Delayed: map[string]int64{"parked": 3, "overdue": 4}, Value: map[string]map[string]float64{"parked": {"GBP": 1250, "EUR": 99}}}},
		Services: []TopService{{Service: "ordering"}, {Service: "payment", Waiting: 1, Behind: 2, Pending: 900, Oldest: 75}},
		Effects:  []TopEffect{{Service: "payment", Effect: "charge", Open: 12, Oldest: 30, Breaker: true}},
		Database: TopDatabase{OldestSeconds: 300, OldestPID: 17, OldestName: "psql", Connections: 10, MaxConnections: 100},
	}
	t.judge()
	return t
}

func TestWhatIsWrongComesWorstFirst(t *testing.T) {
	t.Parallel()
	top := troubled()
	if top.State != "broken" {
		t.Errorf("got state %q, want broken", top.State)
	}
	want := []TopProblem{
		{true, "1 message of payment waits for a person, 2 behind; 3 orders are delayed (EUR 99, GBP 1,250 in minor units)", "courante deadletter list"},
		{false, "payment is 1m15s behind (900 events)", "courante subscriber list"},
		{false, "the party behind charge of payment does not answer: 12 calls wait, the oldest for 30s; tried again until it does", ""},
		{false, `a transaction of "psql" is open for 5m0s and keeps the database from cleaning up`, "psql -c 'select pg_terminate_backend(17)'"},
		{false, "7 orders are overdue", "courante saga show ID"},
	}
	if len(top.Problems) != len(want) {
		t.Fatalf("got %+v", top.Problems)
	}
	for i, p := range top.Problems {
		if p != want[i] {
			t.Errorf("got  %+v\nwant %+v", p, want[i])
		}
	}

	quiet := &Top{Programs: top.Programs}
	quiet.judge()
	if quiet.State != "healthy" || len(quiet.Problems) != 0 {
		t.Errorf("got %+v, want nothing wrong", quiet)
	}
	down := &Top{Programs: []TopProgram{{URL: "http://x", Error: "dial tcp: connection refused"}}, Database: TopDatabase{Error: "a: b: it is away"}}
	down.judge()
	if down.State != "broken" || !strings.HasSuffix(down.Problems[0].Text, "nothing goes on: it is away") || !strings.HasSuffix(down.Problems[1].Text, "connection refused") {
		t.Errorf("got %+v, want the database and then the program", down.Problems)
	}
}

func TestFramesFit(t *testing.T) {
	t.Parallel()
	top := troubled()
	for _, size := range [][2]int{{80, 24}, {140, 40}, {20, 5}, {1, 1}} {
		lines := top.render(size[0], size[1], false)
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines", size, len(lines))
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > size[0] {
				t.Errorf("%v: %q is too long", size, l)
			}
			if strings.Contains(l, "\x1b") {
				t.Errorf("%v: %q is painted", size, l)
			}
		}
	}
	all := strings.Join(top.render(0, 0, false), "\n")
	for _, want := range []string{"12:00:00  broken: 5 problems", "180 events/s", "3 parked, 4 overdue", "1 + 0 retried + 2 behind", "no answer"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if painted := strings.Join(top.render(0, 0, true), "\n"); !strings.Contains(painted, "\x1b[31;1m! 1 message") {
		t.Errorf("what is worst is not red in\n%q", painted)
	}
}
