//go:build linux || darwin

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/courantetest"
)

// TestWarehouse has a program in another language take part in a fleet. Its
// counts correct the stock once each, whatever comes twice or is killed, in the
// trace of the order that made it count; what is no count is put aside.
func TestWarehouse(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a fleet")
	}
	rabbit := courantetest.RabbitMQHost(t)
	p := fleet(t, rabbit)
	if status, answer := p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 100}`); status != http.StatusCreated {
		t.Fatalf("receive: %d %v", status, answer)
	}
	onHand := func(want int) {
		t.Helper()
		var answer map[string]any
		p.until(fmt.Sprintf("%d of tea are on hand", want), func() bool {
			_, answer = p.call(http.MethodGet, "/v1/inventory/tea", "")
			return answer["on_hand"] == float64(want)
		}, func() any { return answer })
	}

	shelves := filepath.Join(t.TempDir(), "shelves.json")
	if err := os.WriteFile(shelves, []byte(`{"shelves":{"tea":95}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	node := startNode(t, rabbit, shelves)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	p.place("first", "tok_ok", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	onHand(93) // 95 were there, two of them left

	// Killed at any moment, it says what it has to say when it is back, once.
	for i := range 3 {
		p.place(fmt.Sprint("more-", i), "tok_ok")
		if i > 0 {
			p.becomes(fmt.Sprint("more-", i), "confirmed")
		}
		node.Process.Kill()
		node.Wait()
		node = startNode(t, rabbit, shelves)
	}
	// What it knows is saved when everything was said, so nothing comes later.
	var known struct{ Shelves map[string]int }
	p.until("the warehouse has handled all orders", func() bool {
		text, err := os.ReadFile(shelves)
		if err == nil {
			err = json.Unmarshal(text, &known)
		}
		if err != nil {
			t.Fatal(err)
		}
		return known.Shelves["tea"] == 87
	}, func() any { return known })
	onHand(87)

	// Somebody who looks at the fleet sees what all its programs tell.
	out, said, code := p.run("top", "--once", "--json")
	var top app.Top
	if err := json.Unmarshal([]byte(out), &top); code != app.ExitOK || err != nil {
		t.Fatalf("top: code %d, %v: %s%s", code, err, out, said)
	}
	for _, program := range top.Programs {
		if program.Error != "" {
			t.Errorf("top: %s does not answer: %s", program.URL, program.Error)
		}
	}
	if len(top.Programs) != 11 { // two of each service, and a gateway
		t.Errorf("top asked %d programs, want 11", len(top.Programs))
	}
	if i := slices.IndexFunc(top.Sagas, func(s app.TopSaga) bool { return s.Saga == "order" }); i < 0 || top.Sagas[i].P50 <= 0 {
		t.Errorf("top says nothing of the orders that were confirmed: %+v", top.Sagas)
	}

	conn, err := amqp.Dial(rabbit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	send := func(id, specversion, data string) {
		t.Helper()
		err := ch.PublishWithContext(t.Context(), "courante", "warehouse.stock_counted", true, false, amqp.Publishing{
			ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: []byte(data),
			Headers: amqp.Table{"cloudEvents:specversion": specversion, "cloudEvents:id": id, "cloudEvents:source": "/test", "cloudEvents:type": "warehouse.stock_counted"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	send("1", "1.0", `{"sku":"tea","on_hand":50}`)
	send("1", "1.0", `{"sku":"tea","on_hand":50}`)
	onHand(50)
	if status, answer := p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 10}`); status != http.StatusCreated {
		t.Fatalf("receive: %d %v", status, answer)
	}
	send("1", "1.0", `{"sku":"tea","on_hand":50}`) // again, long after
	for _, bad := range [][3]string{
		{"2", "1.0", `{"sku":"tea","on_hand":-1}`},
		{"3", "1.0", `{"sku":"coffee","on_hand":1}`},
		{"1", "1.0", `{"sku":"tea","on_hand":51}`}, // an id that was used
		{"4", "1.0", `{"sku":`},
		{"5", "", `{}`},
	} {
		send(bad[0], bad[1], bad[2])
	}
	send("6", "1.0", `{"sku":"tea","on_hand":61}`)
	onHand(61)

	var reasons []string
	p.until("5 messages are put aside", func() bool {
		d, there, err := ch.Get("courante/1/dead", true)
		if err != nil {
			t.Fatal(err)
		}
		if there {
			reasons = append(reasons, fmt.Sprint(d.Headers["x-courante-reason"]))
		}
		return len(reasons) == 5
	}, func() any { return reasons })
	for i, want := range []string{"must be 0 to", `no SKU "coffee"`, "used before", "not JSON", "specversion"} {
		if !strings.Contains(strings.Join(reasons, "\n"), want) {
			t.Errorf("no reason says %q (case %d); they are\n%s", want, i, strings.Join(reasons, "\n"))
		}
	}

	out, said, code = p.run("events", "tail", "--from", "start", "--no-follow", "-n", "1000", "--json")
	if code != app.ExitOK {
		t.Fatalf("events tail: %s", said)
	}
	traces := map[string]string{} // by type, the first one
	found := int64(0)             // by the warehouse
	var adjusted []string
	for line := range strings.Lines(out) {
		var e struct {
			Type  string
			Trace string `json:"trace_id"`
			Data  struct {
				Quantity int64
				Reason   string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if traces[e.Type] == "" {
			traces[e.Type] = e.Trace
		}
		switch {
		case e.Type != "shop.stock_adjusted":
		case strings.HasSuffix(e.Data.Reason, "north"):
			found += e.Data.Quantity
		default:
			adjusted = append(adjusted, fmt.Sprintf("%d %s", e.Data.Quantity, e.Data.Reason))
		}
	}
	// The shelf and the stock differed by five. Between goods that leave the stock
	// and the shelf they may differ for a moment, and make up for it.
	if got := strings.Join(adjusted, ", "); got != "-37 counted, 1 counted" || found != -5 {
		t.Errorf("the stock was adjusted by %s, and by %d at the warehouse", got, found)
	}
	if traces["shop.stock_adjusted"] != trace || traces["shop.order_created"] != trace {
		t.Errorf("the adjustment is in trace %q, the order that made the warehouse count in %q, want %s", traces["shop.stock_adjusted"], traces["shop.order_created"], trace)
	}
	if out, said, code := p.run("verify"); code != app.ExitOK {
		t.Errorf("verify: %d\n%s%s", code, out, said)
	}
}

// startNode starts the example program and returns when it listens.
func startNode(t *testing.T, rabbit, shelves string) *exec.Cmd {
	t.Helper()
	dir := filepath.Join("..", "..", "examples", "warehouse")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "amqplib")); err != nil {
		t.Fatalf("the example's packages are not installed; run scripts/install-node: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "warehouse.js", "--url", rabbit, "--state", shelves)
	cmd.Dir, cmd.Stderr = dir, t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := json.NewDecoder(out)
	var ready struct{ Ready bool }
	if err := lines.Decode(&ready); err != nil || !ready.Ready {
		t.Fatalf("the warehouse does not begin: %v", err)
	}
	go func() {
		for lines.Decode(&json.RawMessage{}) == nil { // so that it can go on writing
		}
	}()
	return cmd
}
