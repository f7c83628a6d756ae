//go:build linux || darwin

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/app"
)

// TestRepair breaks a log beneath its subscribers, as a restore without its
// last transactions does, and has an operator mend it with the words that the
// program puts into his mouth.
func TestRepair(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := up(t, dir)
	p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 100}`)
	p.place("before", "tok_ok")
	p.becomes("before", "confirmed")
	p.until("the mail is sent", func() bool { return mails(t, dir) != "" }, func() any { return "no mail" })
	loseLastTick(t, dir)
	p.signal(syscall.SIGTERM)
	p.end()

	p = up(t, dir)
	p.place("after", "tok_ok")
	var answer map[string]any
	p.until("the lanes are not ready", func() bool {
		_, answer = p.call(http.MethodGet, "/readyz", "")
		return strings.Contains(fmt.Sprint(answer), "courante subscriber repair")
	}, func() any { return answer })
	out, _, _ := p.run("subscriber", "list")
	if !strings.Contains(out, "STOPPED") || !strings.Contains(out, "courante subscriber repair notification --log ordering --dry-run") {
		t.Errorf("subscriber list does not say how to go on:\n%s", out)
	}
	stopped := map[string]bool{}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "STOPPED") {
			stopped[strings.Fields(line)[0]] = true
		}
	}
	for _, subscriber := range slices.Sorted(maps.Keys(stopped)) {
		if out, said, code := p.run("subscriber", "repair", subscriber, "--log", "ordering"); code != app.ExitUsage || !strings.Contains(said, "--to last-common") {
			t.Errorf("repair without a decision: %d %s%s", code, out, said)
		}
		if out, said, code := p.run("subscriber", "repair", subscriber, "--log", "ordering", "--to", "last-common"); code != app.ExitOK || !strings.Contains(said, "Stop and start") {
			t.Fatalf("repair: %d %s%s", code, out, said)
		}
	}
	p.signal(syscall.SIGTERM)
	p.end()

	p = up(t, dir)
	p.becomes("after", "confirmed")
	p.until("every lane is ready", func() bool {
		var status int
		status, answer = p.call(http.MethodGet, "/readyz", "")
		return status == http.StatusOK
	}, func() any { return answer })
	if _, stock := p.call(http.MethodGet, "/v1/inventory/tea", ""); stock["on_hand"] != 96.0 || stock["reserved"] != 0.0 {
		t.Errorf("got stock %v, want 96 on hand and none reserved: each order counts once, though events came again", stock)
	}
	p.until("two mails", func() bool { return strings.Count(mails(t, dir), "is on its way") == 2 }, func() any { return mails(t, dir) })
}

// loseLastTick takes the last tick of the log of orders away.
func loseLastTick(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "courante.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c app.Connection
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), c.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tag, err := conn.Exec(t.Context(), "delete from courante.tick where log = 'ordering' and n = (select max(n) from courante.tick where log = 'ordering')")
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("lose the last tick: %v, %v", tag, err)
	}
}
