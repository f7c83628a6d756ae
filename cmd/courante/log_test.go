//go:build linux || darwin

package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/courante-dev/courante/app"
)

// TestArchive has an operator take the first part out of the log of orders, in
// the way that the help says, and the shop goes on with the orders in it.
func TestArchive(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := up(t, dir)
	p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 100}`)
	p.place("old", "tok_ok")
	p.becomes("old", "confirmed")
	p.until("the mail is sent", func() bool { return mails(t, dir) != "" }, func() any { return "no mail" })
	do := func(want string, args ...string) {
		t.Helper()
		if out, said, code := p.run(args...); code != app.ExitOK || !strings.Contains(out, want) {
			t.Fatalf("%v: %d %s%s, want %q", args, code, out, said, want)
		}
	}
	refused := func(why string, args ...string) {
		t.Helper()
		if out, said, code := p.run(args...); code == app.ExitOK || !strings.Contains(said, why) {
			t.Errorf("%v: %d %s%s, want that it is refused: %q", args, code, out, said, why)
		}
	}
	do("Part 1 of log ordering is closed", "log", "close", "ordering")
	refused("not closed", "log", "seal", "ordering", "2")
	do("Part 1 of log ordering is sealed", "log", "seal", "ordering", "1")
	refused("needed up to tick", "log", "detach", "ordering", "1")
	refused("there is no log", "log", "close", "orderings")
	refused("they count from 1", "log", "seal", "ordering", "first")

	// All of its subscribers are retired, and begin again behind it; the agenda
	// records its place when it stops.
	for _, s := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		do("is retired from log ordering", "subscriber", "retire", s, "--log", "ordering")
		do("begins on log ordering", "subscriber", "add", s, "--log", "ordering", "--from", "now")
		// The running program may have begun there by now, or not yet.
		refused("subscribes to log ordering already", "subscriber", "add", s, "--log", "ordering", "--from", "now")
	}
	p.signal(syscall.SIGTERM)
	p.end()
	p = up(t, dir)

	do("Part 1 of log ordering is detached", "log", "detach", "ordering", "1")
	refused("begins at part 2", "subscriber", "add", "search", "--new", "--log", "ordering", "--from", "start")
	out, _, _ := p.run("log", "parts", "ordering", "--json")
	var states []string
	for line := range strings.Lines(out) {
		var l struct{ State string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		states = append(states, l.State)
	}
	if got := strings.Join(states, " "); got != "detached open" {
		t.Errorf("parts are %s, want detached open", got)
	}
	if status, answer := p.call(http.MethodPost, "/v1/orders", order("old", "tok_declined")); status != http.StatusConflict {
		t.Errorf("another order of an old one's id: %d %v, want 409", status, answer)
	}
	if status, answer := p.call(http.MethodPost, "/v1/orders/old/returns", `{"lines": [{"sku": "tea", "quantity": 2}]}`); status != http.StatusAccepted {
		t.Errorf("a return of the old order: %d %v", status, answer)
	}
	p.becomes("old", "returned")
	p.place("new", "tok_ok")
	p.becomes("new", "confirmed")
	do("Part 1 of log ordering is sealed", "log", "attach", "ordering", "1")
	do("begins on log ordering at start", "subscriber", "add", "search", "--new", "--log", "ordering", "--from", "start")
}
