package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
)

var update = flag.Bool("update", false, "write the golden files anew")

// runHere runs the program in this process.
func runHere(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = theShop().Run(t.Context(), &out, &errs, args...)
	return out.String(), errs.String(), code
}

// TestHelp holds the whole help, which is what people learn the program from:
// read the golden file as one of them after a change.
func TestHelp(t *testing.T) {
	var all strings.Builder
	for _, command := range []string{
		"", "up", "new", "replay", "migrate", "events", "events tail", "events show", "saga", "saga check", "saga draw", "saga show",
		"routes", "schema", "schema export", "schema check", "verify",
		"audit", "deadletter", "deadletter list", "deadletter show", "deadletter dry-run", "deadletter requeue", "deadletter discard",
		"subscriber", "subscriber list", "subscriber add", "subscriber retire", "subscriber repair",
		"log", "log parts", "log close", "log seal", "log detach", "log attach", "bench", "bench orders", "bench append", "bench relay", "bench idle", "version",
	} {
		out, errs, code := runHere(t, append(strings.Fields(command), "--help")...)
		if code != app.ExitOK || errs != "" {
			t.Errorf("help of %q: exit code %d, %s", command, code, errs)
		}
		if !strings.Contains(command, " ") && command != "" && !strings.Contains(out, "  courante "+command) {
			t.Errorf("help of %q has no example", command)
		}
		all.WriteString("$ courante " + strings.TrimSpace(command+" --help") + "\n" + out + "\n")
	}
	const golden = "testdata/help.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := all.String(); got != string(want) {
		t.Errorf("the help differs from %s; read it, then: go test ./cmd/courante -run TestHelp -update\n%s", golden, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			other := "(end)"
			if i < len(w) {
				other = w[i]
			}
			return "got:  " + g[i] + "\nwant: " + other
		}
	}
	return "got the end, want: " + w[len(g)]
}

func TestMistakesSayTheFix(t *testing.T) {
	t.Setenv("COURANTE_POSTGRES_URL", "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	empty := t.TempDir()
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "courante.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	tests := []struct {
		rule string
		args []string
		code int
		says string
	}{
		{"no command", nil, app.ExitUsage, ""},
		{"an unknown command", []string{"dance"}, app.ExitUsage, "courante --help"},
		{"an unknown flag", []string{"up", "--fast"}, app.ExitUsage, "courante up --help"},
		{"a number that is none", []string{"events", "tail", "-n", "many"}, app.ExitUsage, "courante events tail --help"},
		{"a deadline that is none", []string{"up", "--payment-deadline", "0s"}, app.ExitUsage, "--payment-deadline 10s"},
		{"an address that is none", []string{"up", "--listen", "here"}, app.ExitUsage, "127.0.0.1:8080"},
		{"a port in use", []string{"up", "--data", empty, "--listen", taken.Addr().String()}, app.ExitFailed, "--listen 127.0.0.1:0"},
		{"nothing is running", []string{"saga", "show", "first", "--data", empty}, app.ExitFailed, "courante up"},
		{"an unknown setting", []string{"routes", "--config", file("lisen: 1")}, app.ExitUsage, "there is no setting \"lisen\"; there are:"},
		{"a file that is not there", []string{"routes", "--config", "/nowhere.yaml"}, app.ExitUsage, "/nowhere.yaml"},
		{"a file that is no YAML", []string{"routes", "--config", file("a: [")}, app.ExitUsage, "read the settings"},
		{"a repair without a log", []string{"subscriber", "repair", "payment"}, app.ExitUsage, "--log"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			out, errs, code := runHere(t, tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.says) {
				t.Errorf("got %d %q, want %d and %q", code, errs, tt.code, tt.says)
			}
			if strings.Contains(out+errs, "goroutine ") || strings.Contains(out+errs, ".go:") {
				t.Errorf("a stack trace is shown:\n%s%s", out, errs)
			}
		})
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("a command that failed left %v in its folder, %v", entries, err)
	}
}

func TestRoutesAreExplained(t *testing.T) {
	out, errs, code := runHere(t, "routes", "--json")
	if code != app.ExitOK {
		t.Fatalf("routes: %d %s", code, errs)
	}
	routes := map[string]courante.Route{}
	for line := range strings.Lines(out) {
		var r struct {
			Type, From, Transport, Why, Need string
			To                               []courante.Receiver
			Watched                          bool
			Inbound, Service                 string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Inbound != "" {
			if r.Inbound != "warehouse.stock_counted" || r.Service != "inventory" {
				t.Errorf("from outside comes %s to %s", r.Inbound, r.Service)
			}
			continue
		}
		if r.Transport != "log" || r.Why == "" || r.Need == "" {
			t.Errorf("%s has transport %q, need %q and reason %q, want all of them", r.Type, r.Transport, r.Need, r.Why)
		}
		routes[r.Type] = courante.Route{From: r.From, To: r.To, Watched: r.Watched}
	}
	created := routes["shop.order_created"]
	var to []string
	for _, r := range created.To {
		to = append(to, r.Service)
	}
	if got := strings.Join(to, " "); created.From != "ordering" || got != "inventory payment shipping" {
		t.Errorf("shop.order_created goes from %s to %s, want from ordering to inventory, payment and shipping", created.From, got)
	}
	if !routes["ordering.order_paid"].Watched || routes["shop.stock_received"].Watched {
		t.Error("watchers of orders hear of stock, or not of payments")
	}
}

func TestSagaCommands(t *testing.T) {
	out, errs, code := runHere(t, "saga", "check")
	if code != app.ExitOK || !strings.HasPrefix(out, "saga order: ok") {
		t.Errorf("saga check: %d %s%s", code, out, errs)
	}
	if out, _, code := runHere(t, "saga", "draw", "--format", "mermaid"); code != app.ExitOK || !strings.HasPrefix(out, "flowchart") {
		t.Errorf("saga draw --format mermaid: %d %s", code, out)
	}
	if out, _, code := runHere(t, "saga", "draw"); code != app.ExitOK || !strings.Contains(out, "reserve stock") {
		t.Errorf("saga draw: %d %s", code, out)
	}
}

func TestSagaCoverage(t *testing.T) {
	type report struct {
		Runs  int
		Sagas []struct {
			Saga     string
			Outcomes []struct{ Taken int }
		}
		Never []struct{ Service, Step, Outcome string }
	}
	out, errs, code := runHere(t, "saga", "check", "--coverage", "--runs", "2", "--seed", "7", "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Runs != 2 || len(r.Sagas) < 2 || r.Sagas[0].Saga != "order" || r.Sagas[1].Saga != "return" {
		t.Fatalf("%d %s%s %v", code, out, errs, err)
	}
	// Two runs cannot take everything: what is missing is counted as 0, named, and fails.
	zero, taken := 0, 0
	for _, s := range r.Sagas {
		for _, o := range s.Outcomes {
			taken += o.Taken
			if o.Taken == 0 {
				zero++
			}
		}
	}
	if code != app.ExitFailed || zero == 0 || zero != len(r.Never) || taken == 0 {
		t.Errorf("exit code %d with %d outcomes never taken, %d of them named, and others taken %d times", code, zero, len(r.Never), taken)
	}
	if again, _, _ := runHere(t, "saga", "check", "--coverage", "--runs", "2", "--seed", "7", "--json"); again != out {
		t.Errorf("the same seeds again give\n%s\nand gave\n%s", again, out)
	}
	if never := r.Never[0]; !strings.Contains(errs, never.Service+": "+never.Step+": "+never.Outcome) {
		t.Errorf("a person is not told of %+v: %s", never, errs)
	}
}

func TestVersion(t *testing.T) {
	out, _, code := runHere(t, "version", "--json")
	var v struct{ Go, PostgreSQL string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != app.ExitOK || v.Go == "" || v.PostgreSQL != "15 to 18" {
		t.Errorf("version: %d %s %v", code, out, err)
	}
}
