//go:build linux || darwin

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/courante-dev/courante/app"
)

// told is one event of a stream.
type told struct {
	event string
	id    int64
	data  struct {
		Token  string
		State  struct{ Status string }
		Change struct{ Status, Type string }
	}
}

func (e told) status() string { return e.data.State.Status + e.data.Change.Status }

// watching is an open stream.
type watching struct {
	lines *bufio.Reader
	close func()
}

// watch opens the stream of an order, after that event.
func (p *process) watch(id string, after int64) (w *watching, status int) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready.URL+"/v1/orders/"+id+"/events", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	if after > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(after, 10))
	}
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // by who reads it
	if err != nil {
		p.t.Fatal(err)
	}
	return &watching{bufio.NewReader(res.Body), func() {
		cancel()
		_ = res.Body.Close()
	}}, res.StatusCode
}

// next is the next event of the stream.
func (w *watching) next() (e told, err error) {
	for {
		line, err := w.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.event = value
		case "id":
			e.id, err = strconv.ParseInt(value, 10, 64)
		case "data":
			err = json.Unmarshal([]byte(value), &e.data)
		case "":
			if e.event != "" {
				return e, nil
			}
		}
		if err != nil {
			return e, fmt.Errorf("%q: %w", line, err)
		}
	}
}

// follow reads the stream until the order has the status, coming back after
// each event if so told, and returns the statuses it saw.
func (p *process) follow(id, until string, comeBack bool) []string {
	p.t.Helper()
	var statuses []string
	last := int64(0)
	w, _ := p.watch(id, 0)
	defer func() { w.close() }()
	for {
		e, err := w.next()
		if err != nil {
			p.t.Errorf("the stream of %s ended after %v: %v", id, statuses, err)
			return statuses
		}
		if want := "change"; last > 0 && (e.event != want || e.id != last+1) {
			p.t.Errorf("%s: after event %d came %s %d, want %s %d", id, last, e.event, e.id, want, last+1)
		}
		last = e.id
		if len(statuses) == 0 || statuses[len(statuses)-1] != e.status() {
			statuses = append(statuses, e.status())
		}
		if e.status() == until {
			return statuses
		}
		if comeBack {
			w.close()
			w, _ = p.watch(id, last)
		}
	}
}

// happy are the statuses of an order that nothing happens to.
var happy = []string{"created", "reserved", "paid", "shipped", "confirmed"}

// TestWatch holds the streams of orders to their promise, from outside: the
// order first, then each change once and in order, whoever comes back whenever,
// also after the program was killed.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir, address := dataDir(t), freeAddress(t)
	p := upOn(t, dir, address)
	p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 10000}`)

	p.comeBack()
	p.watchTheEnd()
	p.watchAllAtOnce()

	p.place("killed", "tok_slow")
	w, _ := p.watch("killed", 0)
	last := told{}
	for last.status() != "reserved" {
		var err error
		if last, err = w.next(); err != nil {
			t.Fatal(err)
		}
	}
	p.signal(syscall.SIGKILL)
	p.end()
	p = upOn(t, dir, address)
	w, _ = p.watch("killed", last.id)
	for want := last.id + 1; ; want++ {
		e, err := w.next()
		if err != nil || e.event != "change" || e.id != want {
			t.Fatalf("after the kill came %+v, %v; want change %d", e, err, want)
		}
		if e.status() == "confirmed" {
			break
		}
	}
	p.signal(syscall.SIGINT)
	if _, err := w.next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the stop: %v, want that the stream ends", err)
	}
	if code := p.end(); code != app.ExitOK {
		t.Errorf("the stop with an open stream: exit code %d", code)
	}
}

// comeBack has many watch, half of whom come back after each event, in the midst
// of a burst of them.
func (p *process) comeBack() {
	p.t.Helper()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			id := fmt.Sprint("burst-", i)
			if status, answer := p.call(http.MethodPost, "/v1/orders", order(id, "tok_ok")); status != http.StatusCreated {
				p.t.Errorf("place %s: %d %v", id, status, answer)
				return
			}
			statuses := p.follow(id, "confirmed", i%2 == 0)
			if from := slices.Index(happy, slices.Concat(statuses, []string{""})[0]); from < 0 || !slices.Equal(statuses, happy[from:]) {
				p.t.Errorf("%s was %v, want %v from some on", id, statuses, happy)
			}
		})
	}
	all.Wait()
}

// watchTheEnd watches an order that has ended.
func (p *process) watchTheEnd() {
	p.t.Helper()
	p.place("declined", "tok_declined")
	p.follow("declined", "cancelled", false)
	version := int64(p.becomes("declined", "cancelled")["version"].(float64))
	w, _ := p.watch("declined", 0)
	if e, err := w.next(); err != nil || e.event != "state" || e.id != version || e.status() != "cancelled" || e.data.Token == "" {
		p.t.Errorf("an order that has ended is told as %+v, %v", e, err)
	}
	if _, err := w.next(); !errors.Is(err, io.EOF) {
		p.t.Errorf("after the end: %v, want that the stream ends", err)
	}
	if _, status := p.watch("declined", version); status != http.StatusNoContent {
		p.t.Errorf("who has seen the end and comes back gets %d, want 204", status)
	}
	if _, status := p.watch("nobody", 0); status != http.StatusNotFound {
		p.t.Errorf("an order that is not there: %d, want 404", status)
	}
}

// watchAllAtOnce has a thousand watch one order, and measures what they take.
func (p *process) watchAllAtOnce() {
	p.t.Helper()
	p.place("watched", "tok_ok")
	version := int64(p.becomes("watched", "confirmed")["version"].(float64))
	before := residentKB(p.t, p.cmd.Process.Pid)
	streams := make([]*watching, 1000)
	for i := range streams {
		streams[i], _ = p.watch("watched", 0)
		if e, err := streams[i].next(); err != nil || e.event != "state" || e.id != version {
			p.t.Fatalf("got %+v, %v; want the order", e, err)
		}
	}
	each := (residentKB(p.t, p.cmd.Process.Pid) - before) / len(streams)
	if each > 150 {
		p.t.Errorf("a watcher takes %d kB", each)
	}
	begun := time.Now()
	if status, answer := p.call(http.MethodPost, "/v1/orders/watched/returns", `{"lines": [{"sku": "tea", "quantity": 2}]}`); status != http.StatusAccepted {
		p.t.Fatalf("return: %d %v", status, answer)
	}
	for _, w := range streams {
		last := told{id: version}
		for last.status() != "returned" {
			e, err := w.next()
			if err != nil || e.event != "change" || e.id != last.id+1 {
				p.t.Fatalf("after event %d came %+v, %v", last.id, e, err)
			}
			last = e
		}
		if _, err := w.next(); !errors.Is(err, io.EOF) {
			p.t.Fatalf("after the end: %v", err)
		}
	}
	p.t.Logf("%d watchers take %d kB each, and all knew of the return after %v", len(streams), each, time.Since(begun))
}

var resident = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// residentKB is the memory of a process; 0 where nobody says.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(resident.FindSubmatch(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
