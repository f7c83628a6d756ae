//go:build linux || darwin

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/courante-dev/courante/cmd/courante/internal/replay"

	"github.com/courante-dev/courante/app"
)

// door is an address that stays while the system behind it is killed and
// started again elsewhere.
type door struct {
	*httptest.Server
	mu     sync.Mutex // guards all below
	target string
	passed int
	at     map[int]func() // called once that many requests have passed
}

func newDoor(t *testing.T, target string) *door {
	d := &door{target: target, at: map[int]func(){}}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.passed++
		if act := d.at[d.passed]; act != nil {
			go act()
		}
		to, err := url.Parse(d.target)
		d.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		proxy := httputil.ReverseProxy{
			Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *door) moveTo(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = target
}

// after lets act happen when so many requests more have passed.
func (d *door) after(requests int, act func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at[d.passed+requests] = act
}

// recording is a file of orders, each of which gives a part back, and how much
// of each SKU is on hand in the end.
func recording(t *testing.T, orders int) (file string, onHand map[string]int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
	onHand = map[string]int{}
	for i := range orders {
		sku := fmt.Sprint(10000 + i%7)
		fmt.Fprintf(&b, "%d,%s,A THING,%d,2010-12-01 08:26:00,2.55,%d,France\n", 5000+i, sku, 4+i%3, 100+i%9)
		fmt.Fprintf(&b, "%d,POST,POSTAGE,1,2010-12-01 08:26:00,18.00,%d,France\n", 5000+i, 100+i%9)
		fmt.Fprintf(&b, "C%d,%s,A THING,-3,2010-12-01 08:26:00,2.55,%d,France\n", 6000+i, sku, 100+i%9)
		onHand[sku] += 3
	}
	file = filepath.Join(t.TempDir(), "recording.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, onHand
}

// TestReplayKilled kills the replay in the middle, then the system under it:
// the run after that finishes it, and everything happened once.
func TestReplayKilled(t *testing.T) {
	t.Parallel()
	const orders = 60
	dir := dataDir(t)
	p := up(t, dir)
	d := newDoor(t, p.ready.URL)
	file, onHand := recording(t, orders)
	start := func() (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
		cmd := command(t, dir, nil, "replay", file, "--url", d.URL, "--json")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out, &errs
	}

	cmd, _, _ := start()
	d.after(70, func() { cmd.Process.Kill() })
	if err := cmd.Wait(); err == nil {
		t.Fatal("the replay ended before it was killed")
	}

	killed := make(chan struct{})
	d.after(90, func() {
		p.signal(syscall.SIGKILL)
		close(killed)
	})
	cmd, out, errs := start()
	<-killed
	p.end()
	p = up(t, dir)
	d.moveTo(p.ready.URL)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the replay after a kill: %v\n%s%s", err, out, errs)
	}
	var r replay.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if r.Checks != "ok" || r.Lines != 3*orders || r.Accepted["order_line"] != orders || r.Accepted["charge_line"] != orders || r.Accepted["return"] != orders {
		t.Errorf("got %+v, want %d order lines, charges and returns", r, orders)
	}
	if r.Orders.ByStatus["confirmed"] != orders || r.Repeated == 0 {
		t.Errorf("got orders %v after %d repeated requests, want %d confirmed after some", r.Orders.ByStatus, r.Repeated, orders)
	}
	for sku, want := range onHand {
		var level map[string]any
		p.until("what comes back is on hand", func() bool {
			_, level = p.call(http.MethodGet, "/v1/inventory/"+sku, "")
			return level["on_hand"] == float64(want) && level["reserved"] == 0.0
		}, func() any { return fmt.Sprint(level, ", want on hand ", want) })
	}
}

// TestReplayReport looks at the report as people see it, of the sample that has
// a line for each rule.
func TestReplayReport(t *testing.T) {
	t.Parallel()
	p := up(t, dataDir(t))
	sample, err := filepath.Abs("internal/replay/testdata/retail.csv")
	if err != nil {
		t.Fatal(err)
	}
	out, errs, code := p.run("replay", sample, "--url", p.ready.URL)
	if code != app.ExitOK {
		t.Fatalf("got exit code %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{
		"        8  accepted as order lines\n",
		"        2  refused: bad debt (invoice A...) is no order, first in line 16\n",
		"       32  of 32 in the file\n",
		"        4  confirmed\n        1  returned\n",
		"checks                ok\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the report does not say %q:\n%s", want, out)
		}
	}
}

func TestReplayMistakes(t *testing.T) {
	t.Setenv("COURANTE_LISTEN", "127.0.0.1:0")
	good, _ := recording(t, 1)
	cut := filepath.Join(t.TempDir(), "cut.csv")
	if err := os.WriteFile(cut, []byte("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n1,\"2"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		rule string
		args []string
		code int
		says string
	}{
		{"no file", nil, app.ExitUsage, "courante replay --help"},
		{"a file that is not there", []string{"/nowhere.csv", "--url", "http://127.0.0.1:1"}, app.ExitUsage, "/nowhere.csv"},
		{"a folder", []string{t.TempDir(), "--url", "http://127.0.0.1:1"}, app.ExitFailed, "is a folder"},
		{"a port that is not known", []string{good}, app.ExitUsage, "--url http://127.0.0.1:8080"},
		{"an address that is none", []string{good, "--url", "shop:8080"}, app.ExitUsage, "http://127.0.0.1:8080"},
		{"a rate that is none", []string{good, "--rate", "fast"}, app.ExitUsage, "100/s"},
		{"a speed that is none", []string{good, "--speed", "0x"}, app.ExitUsage, "60x"},
		{"no concurrency", []string{good, "--concurrency", "0", "--url", "http://127.0.0.1:1"}, app.ExitUsage, "1 to 512"},
		{"less than no stock", []string{good, "--stock=-1", "--url", "http://127.0.0.1:1"}, app.ExitUsage, "--stock"},
		{"a file that is cut off", []string{cut, "--url", "http://127.0.0.1:1"}, app.ExitFailed, "Nothing was sent"},
		{"nobody there", []string{good, "--url", "http://127.0.0.1:1", "--patience", "1ms"}, app.ExitFailed, "courante up"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			_, errs, code := runHere(t, append([]string{"replay"}, tt.args...)...)
			if code != tt.code || !strings.Contains(errs, tt.says) {
				t.Errorf("got %d %q, want %d and %q", code, errs, tt.code, tt.says)
			}
		})
	}
}
