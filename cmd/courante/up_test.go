//go:build linux || darwin

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/courante-dev/courante/app"
)

// TestUp is a day in the life of a system: one program, started three times on
// one folder.
func TestUp(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := up(t, dir)
	if status, answer := p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 100}`); status != http.StatusCreated {
		t.Fatalf("receive stock: %d %v", status, answer)
	}

	t.Run("an order is confirmed and its customer told", func(t *testing.T) {
		p.place("first", "tok_ok")
		p.becomes("first", "confirmed")
		p.until("a mail", func() bool { return strings.Contains(mails(t, dir), "Your order first is on its way") }, func() any { return mails(t, dir) })
	})
	t.Run("an order whose card is declined is compensated", func(t *testing.T) {
		p.place("second", "tok_declined")
		p.becomes("second", "cancelled")
		if _, stock := p.call(http.MethodGet, "/v1/inventory/tea", ""); stock["available"] != 98.0 {
			t.Errorf("got stock %v, want 98 available: of the first order alone", stock)
		}
	})
	t.Run("the saga shows every service", func(t *testing.T) { testSaga(t, p) })
	t.Run("events are shown with their cause", func(t *testing.T) { testEvents(t, p) })
	t.Run("subscribers and migrations", func(t *testing.T) { testOperators(t, p) })
	t.Run("it is ready and measured", func(t *testing.T) { testMeasured(t, p) })
	t.Run("top and the documents know its metrics", func(t *testing.T) { testTop(t, p) })
	t.Run("callers invent no series", func(t *testing.T) { testLabels(t, p) })
	t.Run("the connection is for its owner only", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(dir, "courante.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v; want mode 0600", info, err)
		}
	})
	t.Run("orders are listed as they stand", func(t *testing.T) { testOrderList(t, p) })
	t.Run("a folder has one owner", func(t *testing.T) {
		_, said, code := p.run("up", "--listen", "127.0.0.1:0")
		if code != app.ExitFailed || !strings.Contains(said, fmt.Sprint(p.ready.PID)) {
			t.Errorf("got %d %q, want %d and the process that has it", code, said, app.ExitFailed)
		}
	})

	testDrain(t, p)
	if _, err := os.Stat(filepath.Join(dir, "courante.json")); err == nil {
		t.Error("the connection file is still there after the stop")
	}
	checkLog(t, p.said())

	p = up(t, dir)
	p.becomes("first", "confirmed")
	p.becomes("drained", "confirmed")
	testSecondSignal(t, p)

	p = up(t, dir)
	p.becomes("drained", "confirmed")
	p.signal(syscall.SIGINT)
	if code := p.end(); code != app.ExitOK {
		t.Errorf("got exit code %d after an interrupt, want %d", code, app.ExitOK)
	}
}

func mails(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS(filepath.Join(dir, "mail")), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, "mail", path))
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func testSaga(t *testing.T, p *process) {
	status, answer := p.call(http.MethodGet, "/v1/sagas/first", "")
	if status != http.StatusOK || answer["state"] != "completed" || answer["waiting"] != nil {
		t.Errorf("got %d %v, want a completed saga", status, answer)
	}
	if _, answer := p.call(http.MethodGet, "/v1/sagas/second", ""); answer["state"] != "compensated" {
		t.Errorf("got %v, want a compensated saga", answer)
	}
	if status, answer := p.call(http.MethodGet, "/v1/sagas/nobody", ""); status != http.StatusNotFound {
		t.Errorf("saga of an order that is not there: got %d %v, want 404", status, answer)
	}
	if status, answer := p.call(http.MethodGet, "/v1/sagas/first", "", "Courante-Token", "nonsense"); status != http.StatusBadRequest {
		t.Errorf("token that makes no sense: got %d %v, want 400", status, answer)
	}
	out, said, code := p.run("saga", "show", "first")
	if code != app.ExitOK {
		t.Fatalf("saga show: %d %s", code, said)
	}
	for _, want := range []string{"saga order first: completed", "ordering ", "inventory ", "payment ", "shipping ", "notification ", "trace "} {
		if !strings.Contains(out, want) {
			t.Errorf("saga show lacks %q:\n%s", want, out)
		}
	}
	if _, said, code := p.run("saga", "show", "nobody"); code != app.ExitFailed || !strings.Contains(said, "no saga is about \"nobody\"") {
		t.Errorf("saga show of nobody: %d %s", code, said)
	}
}

func testEvents(t *testing.T, p *process) {
	out, said, code := p.run("events", "tail", "--from", "start", "--no-follow", "--type", "shop.order_created", "-n", "2", "--json")
	if code != app.ExitOK {
		t.Fatalf("events tail: %d %s", code, said)
	}
	var ids []string
	for line := range strings.Lines(out) {
		var e struct{ ID string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		ids = append(ids, e.ID)
	}
	if got := strings.Join(ids, " "); got != "ordering/order:first@1 ordering/order:second@1" {
		t.Errorf("got events %s, want the creation of both orders", got)
	}
	out, said, code = p.run("events", "show", "payment/payment:first@2")
	if code != app.ExitOK {
		t.Fatalf("events show: %d %s", code, said)
	}
	because, rest, _ := strings.Cut(out, "\nEVENT\n")
	event, ledTo, _ := strings.Cut(rest, "LED TO")
	if !strings.Contains(because, "ordering/order:first@1") || !strings.Contains(event, "payment.requested") || !strings.Contains(ledTo, "shop.payment_processed") {
		t.Errorf("events show gives\n%s\nwant the order as a cause and the payment as a consequence", out)
	}
	out, _, _ = p.run("events", "show", "order:first")
	// Five, or six if the goods left before the order knew of its shipment.
	if n := p.becomes("first", "confirmed")["version"]; float64(strings.Count(out, "    id ")) != n {
		t.Errorf("a stream is shown as\n%s\nwant its %v events", out, n)
	}
	for _, bad := range []string{"first", "ordering/order:first@x", "nolog/order:first"} {
		if _, said, code := p.run("events", "show", bad); code != app.ExitUsage {
			t.Errorf("events show %s: got %d %s, want a usage error", bad, code, said)
		}
	}
}

func testOperators(t *testing.T, p *process) {
	type lanePlace struct {
		Subscriber, Log string
		Pending         int
	}
	var places []lanePlace
	p.until("nothing is pending", func() bool {
		places = nil
		out, said, code := p.run("subscriber", "list", "--json")
		if code != app.ExitOK {
			t.Fatalf("subscriber list: %d %s", code, said)
		}
		pending := 0
		for line := range strings.Lines(out) {
			var l lanePlace
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			places = append(places, l)
			pending += l.Pending
		}
		return pending == 0 && len(places) > 0
	}, func() any { return places })

	before, _, _ := p.run("subscriber", "list")
	_, said, code := p.run("subscriber", "repair", "payment", "--log", "ordering", "--to", "start")
	if after, _, _ := p.run("subscriber", "list"); code != app.ExitOK || !strings.Contains(said, "Nothing is broken") || after != before {
		t.Errorf("repair of what is whole: %d %s\n%s", code, said, after)
	}
	if out, _, code := p.run("migrate", "--dry-run"); code != app.ExitOK || !strings.Contains(out, "up to date") {
		t.Errorf("migrate --dry-run: %d %s", code, out)
	}
	if out, _, code := p.run("migrate", "status"); code != app.ExitOK || !strings.Contains(out, "001 ticks") || strings.Contains(out, "not yet") {
		t.Errorf("migrate status: %d %s", code, out)
	}
}

func testMeasured(t *testing.T, p *process) {
	status, answer := p.call(http.MethodGet, "/readyz", "")
	checks, _ := answer["checks"].(map[string]any)
	for _, name := range []string{"database", "lanes", "ticker"} {
		if status != http.StatusOK || checks[name] != "ok" {
			t.Errorf("/readyz: %d %v, want check %s ok", status, answer, name)
		}
	}
	if status, answer := p.call(http.MethodGet, "/healthz", ""); status != http.StatusOK {
		t.Errorf("/healthz: %d %v", status, answer)
	}
	body := p.text("/metrics")
	for _, want := range []string{
		`http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="201",http_route="/v1/orders"} 2`,
		`courante_command_duration_seconds_count{command="place order",outcome="ok",service="ordering"} 2`,
		`courante_effect_duration_seconds_count{effect="charge",outcome="ok",service="payment"} 2`,
		`courante_subscriber_lag_seconds_count{service="shipping"}`,
		`courante_unit_items_count{service="inventory"}`,
		"process_cpu_seconds_total", "go_memory_used_bytes",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// testDrain ends the program while a request is under way, and wants it
// answered. The interim answer 100 tells that it is.
func testDrain(t *testing.T, p *process) {
	conn, answers := beginRequest(t, p, order("drained", "tok_ok"))
	p.signal(syscall.SIGTERM)
	p.refused()
	if _, err := conn.Write([]byte(order("drained", "tok_ok"))); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatalf("a request that was under way got no answer: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Errorf("a request that was under way got %d, want %d", res.StatusCode, http.StatusCreated)
	}
	if code := p.end(); code != app.ExitOK {
		t.Errorf("got exit code %d after SIGTERM, want %d\n%s", code, app.ExitOK, p.said())
	}
}

// testSecondSignal wants the second signal to end the program at once, though
// a request is under way that would be waited for.
func testSecondSignal(t *testing.T, p *process) {
	beginRequest(t, p, order("never", "tok_ok"))
	p.signal(syscall.SIGINT)
	p.refused()
	p.signal(syscall.SIGINT)
	start := time.Now()
	if code := p.end(); code != app.ExitFailed {
		t.Errorf("got exit code %d after the second signal, want %d", code, app.ExitFailed)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the second signal took %s, want no waiting for the request", took)
	}
}

// beginRequest opens a request and returns when the program reads its body.
func beginRequest(t *testing.T, p *process, body string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.ready.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	answers := bufio.NewReader(conn)
	line, err := answers.ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q, %v; want 100 Continue", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return conn, answers
}

// refused waits until the program takes no new connections.
func (p *process) refused() {
	p.t.Helper()
	p.until("no new connections", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.ready.URL, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, func() any { return "a connection" })
}

// checkLog validates every line that the program logged.
func checkLog(t *testing.T, log string) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../docs/log.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	requests := 0
	for line := range strings.Lines(log) {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Errorf("a log line is not JSON: %v: %s", err, line)
			continue
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s%v", line, err)
		}
		if fields, _ := v.(map[string]any); fields["msg"] == "request" {
			requests++
			if fields["trace_id"] == nil {
				t.Errorf("a request is logged without its trace: %s", line)
			}
		}
		if twice := repeatedKey(line); twice != "" {
			t.Errorf("%s is twice in %s", twice, line)
		}
	}
	if requests < 5 {
		t.Errorf("got %d log lines of requests, want one each:\n%s", requests, log)
	}
}

// repeatedKey finds a name that an object of scalars holds twice.
func repeatedKey(line string) string {
	d := json.NewDecoder(strings.NewReader(line))
	seen := map[string]bool{}
	depth, name := 0, true
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			name = true
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			name = true
			continue
		}
		if depth > 1 {
			continue
		}
		if key, ok := token.(string); ok && name {
			if seen[key] {
				return key
			}
			seen[key] = true
		}
		name = !name
	}
}
