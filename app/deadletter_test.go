package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

// The clinic of these tests calls patients in their order and fails with those
// it has no remedy for.

type arrived struct {
	Patient string `json:"patient"`
	N       int64  `json:"n"`
	Address string `json:"address" personal:"true"`
}

func (arrived) EventType() string     { return "door.arrived" }
func (a arrived) PersonalKey() string { return a.Patient }

type called struct {
	Patient string `json:"patient"`
}

func (called) EventType() string { return "ward.called" }

type chart struct{ Numbers []int64 }

// remedy is a version of the program: whom it can treat.
type remedy struct{ forAll atomic.Bool }

func (r *remedy) services() []*courante.Service {
	door, ward := courante.NewService("door"), courante.NewService("ward")
	door.Emits(courante.Critical, arrived{})
	courante.Sourced(door, "patient", courante.Evolve(func(*chart, arrived) {}))
	ward.Emits(courante.Critical, called{})
	charts := courante.Stored[chart](ward, "chart")
	courante.On(ward, courante.Reaction[arrived]{
		Step: courante.Step{Name: "call", Outcomes: []courante.Outcome{{Emits: courante.Types(called{})}}},
		Do: func(d *courante.Decision, e arrived) error {
			if strings.HasPrefix(e.Patient, "sick") && e.N == 1 && !r.forAll.Load() {
				return courante.Park(fmt.Errorf("no remedy for patient %s", e.Patient))
			}
			if strings.HasPrefix(e.Patient, "hopeless") && e.N == 1 {
				return courante.Park(errors.New("no remedy at all"))
			}
			c := charts.Load(d, e.Patient)
			c.Put(chart{append(slices.Clip(c.State.Numbers), e.N)})
			c.Emit(called{e.Patient})
			return nil
		},
	})
	return []*courante.Service{door, ward}
}

// clinic is the program that is called here, and the one that runs, which may
// be of another version.
type clinic struct {
	t             *testing.T
	here, running remedy
	db            *postgres.Database
	stop          func()
}

func startClinic(t *testing.T) *clinic {
	dir, err := os.MkdirTemp("", "courante-test-") // t.TempDir lies in a folder that only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := postgres.StartServer(t.Context(), postgres.ServerConfig{Dir: dir, Offline: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("COURANTE_POSTGRES_URL", server.URL("postgres"))
	t.Setenv("COURANTE_DATA", t.TempDir())
	c := &clinic{t: t}
	if c.db, err = postgres.Open(t.Context(), postgres.Config{URL: server.URL("postgres"), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.db.Close)
	return c
}

func (c *clinic) app() App {
	return App{
		Name: "clinic", About: "Calls patients.", Declare: c.here.services,
		Open: func(context.Context, *Env) ([]Context, error) {
			list := c.running.services()
			return []Context{Only(list[0]), Only(list[1])}, nil
		},
	}
}

// up runs the program until stop.
func (c *clinic) up() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	ready, said := io.Pipe()
	running.Go(func() {
		var errs bytes.Buffer
		if code := c.app().Run(ctx, said, &errs, "up", "--json", "--listen", "127.0.0.1:0", "--log-level", "error"); code != ExitOK {
			c.t.Errorf("up ended with %d: %s", code, errs.String())
		}
		said.Close()
	})
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	c.t.Cleanup(c.stop)
	if err := json.NewDecoder(ready).Decode(&struct{}{}); err != nil {
		c.t.Fatal("up did not become ready: ", err)
	}
	go func() { _, _ = io.Copy(io.Discard, ready) }()
}

func (c *clinic) call(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	var out, errs bytes.Buffer
	code = c.app().Run(c.t.Context(), &out, &errs, args...)
	return out.String(), errs.String(), code
}

// says calls the program and checks how it ends and that it says each of the texts.
func (c *clinic) says(code int, line string, texts ...string) {
	c.t.Helper()
	out, errs, got := c.call(strings.Fields(line)...)
	for _, text := range texts {
		if !strings.Contains(out+errs, text) {
			c.t.Errorf("%s does not say %q, but\n%s%s", line, text, out, errs)
		}
	}
	if got != code {
		c.t.Errorf("%s ends with %d, want %d:\n%s%s", line, got, code, out, errs)
	}
}

func (c *clinic) store(name string) *postgres.Store {
	c.t.Helper()
	s, err := c.db.Store(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *clinic) arrives(patient string, n int64) {
	c.t.Helper()
	e, err := courante.NewEvent(arrived{patient, n, "12 High Street"})
	if err != nil {
		c.t.Fatal(err)
	}
	e.Correlation = patient
	if _, err := c.store("door").Append(c.t.Context(), "patient:"+patient, n-1, e); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) numbers(patient string) []int64 {
	c.t.Helper()
	states, err := c.store("ward").Read(c.t.Context(), []courante.Key{{Category: "chart", ID: patient}})
	if err != nil {
		c.t.Fatal(err)
	}
	var s chart
	if len(states[0].Data) > 0 {
		if err := json.Unmarshal(states[0].Data, &s); err != nil {
			c.t.Fatal(err)
		}
	}
	return s.Numbers
}

func (c *clinic) aside() []courante.Parked {
	c.t.Helper()
	list, err := c.store("ward").Parked(c.t.Context(), "ward", courante.ParkedQuery{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

func (c *clinic) until(what string, cond func() bool) {
	c.t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(20 * time.Second); !cond(); <-poll.C {
		if time.Now().After(end) {
			c.t.Fatal("gave up waiting: " + what)
		}
	}
}

func TestOperatorMendsWhatIsSetAside(t *testing.T) {
	c := startClinic(t)
	c.up()
	c.arrives("sick0", 1)
	c.until("the first is set aside", func() bool { return len(c.aside()) == 1 })
	for i := range 29 {
		c.arrives(fmt.Sprintf("sick%d", i+1), 1)
	}
	c.arrives("sick0", 2)
	c.arrives("sick0", 3)
	c.arrives("hopeless", 1)
	c.arrives("hopeless", 2)
	c.arrives("hopeless", 3)
	c.until("all are set aside", func() bool { return len(c.aside()) == 35 })
	first := c.aside()[0]
	f := first.Fingerprint

	c.says(ExitOK, "deadletter list", f, "30", `"call": no remedy for patient sick`, "waits for you", "clinic deadletter show")
	c.says(ExitOK, "deadletter list --messages --limit 3 --fingerprint "+f, "ward/", "More: clinic deadletter list --messages --after ward/")
	c.says(ExitOK, "deadletter show "+f, "The first of 30", "sick0", "personal; --personal shows it", "app.(*remedy).services.func", "behind it    2 of its key wait", "clinic saga show sick0")
	c.says(ExitOK, "deadletter show "+f+" --personal", "12 High Street")
	if out, _, _ := c.call("deadletter", "show", f, "--json"); strings.Contains(out, "High Street") {
		t.Errorf("an address is shown unasked: %s", out)
	}

	// This program is not better than the one that runs; then it is.
	c.says(ExitFailed, fmt.Sprintf("deadletter dry-run ward/%d", first.ID), "FAILS", "no remedy for patient sick0", "waits behind the one that fails")
	c.here.forAll.Store(true)
	c.says(ExitOK, fmt.Sprintf("deadletter dry-run ward/%d", first.ID), "goes through", "emits   ward/chart:sick0@1  ward.called", "stores  chart:sick0")
	c.says(ExitOK, "deadletter dry-run --limit 30 "+f, "goes through")
	if len(c.aside()) != 35 || len(c.numbers("sick0")) != 0 {
		t.Error("a dry run has changed something")
	}

	// The one that runs is still as it was: the canary fails, and no other is tried.
	c.says(ExitFailed, "deadletter requeue --fingerprint "+f, "0 of 30 handled", "failed again: no remedy", "29 left as they were")
	for _, p := range c.aside() {
		if want := map[bool]int{true: 2, false: 1}[p.ID == first.ID]; p.Cause != "" && p.Attempts != want {
			t.Errorf("message %d was tried %d times, want %d", p.ID, p.Attempts, want)
		}
	}
	behind := fmt.Sprintf("ward/%d", c.aside()[1].ID)
	for _, p := range c.aside() {
		if p.Key == "sick0" && p.Cause == "" {
			behind = fmt.Sprintf("ward/%d", p.ID)
		}
	}
	c.says(ExitUsage, "deadletter requeue "+behind, "only waits behind", fmt.Sprintf("clinic deadletter requeue ward/%d", first.ID))

	c.running.forAll.Store(true)
	c.says(ExitOK, fmt.Sprintf("deadletter requeue --by Ann ward/%d", first.ID), "1 of 1 handled")
	c.until("what waited behind it is handled too", func() bool { return len(c.numbers("sick0")) == 3 })
	if got := c.numbers("sick0"); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("patient sick0 was called as %v, want in order", got)
	}
	c.says(ExitOK, "deadletter requeue --limit 5 --fingerprint "+f, "5 of 5 handled")
	c.says(ExitOK, "deadletter requeue --fingerprint "+f, "24 of 24 handled")
	c.says(ExitFailed, "deadletter requeue --all", "0 of 1 handled", "failed again: no remedy at all")

	var hopeless []courante.Parked
	c.until("only the hopeless one is left", func() bool { hopeless = c.aside(); return len(hopeless) == 3 })
	c.says(ExitOK, fmt.Sprintf("deadletter discard ward/%d --reason middle", hopeless[1].ID), "is discarded.")
	c.says(ExitOK, fmt.Sprintf("deadletter discard ward/%d --reason hopeless", hopeless[0].ID), "1 behind it go on")
	c.until("what waited behind it goes on", func() bool { return len(c.aside()) == 0 })
	if got := c.numbers("hopeless"); !slices.Equal(got, []int64{3}) {
		t.Errorf("the hopeless patient was called as %v, want the one that was not discarded", got)
	}
	c.says(ExitOK, "deadletter list --all", "Nothing is set aside", "hopeless", "middle")
	c.says(ExitFailed, fmt.Sprintf("deadletter requeue ward/%d", hopeless[0].ID), "it was discarded on")
	c.says(ExitFailed, fmt.Sprintf("deadletter discard ward/%d --reason again", hopeless[0].ID), "it was discarded on")
	c.says(ExitOK, "audit", "deadletter requeue", "deadletter discard", "Ann (", "reason=hopeless", "done")

	later := time.Now().Add(25 * time.Hour)
	for _, keep := range []time.Duration{0, 26 * time.Hour} {
		if err := (upkeep{KeepParked: keep}).run(t.Context(), c.store("ward"), later); err != nil {
			t.Fatal(err)
		}
		c.says(ExitOK, "deadletter list --all", "hopeless")
	}
	if err := (upkeep{KeepParked: 24 * time.Hour}).run(t.Context(), c.store("ward"), later); err != nil {
		t.Fatal(err)
	}
	if out, _, _ := c.call("deadletter", "list", "--all"); strings.Contains(out, "hopeless") {
		t.Errorf("what was discarded a day ago is still there: %s", out)
	}
	c.says(ExitOK, "audit", "reason=hopeless")
	c.says(ExitUsage, "up --keep-parked 5m", "1h is the least")
}

func TestRequeueWithoutAProgram(t *testing.T) {
	c := startClinic(t)
	c.up()
	for i := range 3 {
		c.arrives(fmt.Sprintf("sick%d", i), 1)
	}
	c.until("all are set aside", func() bool { return len(c.aside()) == 3 })
	c.says(ExitUsage, "deadletter requeue", "say which messages")
	c.says(ExitUsage, "deadletter requeue --all ward/1", "say which messages")
	c.says(ExitUsage, "deadletter requeue --all --limit=-3", "at least 1")
	for _, id := range []string{"17", "ward", "ward/", "ward/x", "ward/0", "ward/99999999999999999999", "nobody/1"} {
		c.says(ExitUsage, "deadletter requeue "+id, "clinic: ")
		c.says(ExitUsage, "deadletter discard --reason x "+id, "clinic: ")
	}
	c.says(ExitUsage, "deadletter show 17", "no fingerprint")
	c.says(ExitFailed, "deadletter show aaaaaaaaaaaa", "nothing with fingerprint")
	c.says(ExitFailed, "deadletter requeue ward/4711", "no message ward/4711")
	c.says(ExitUsage, "deadletter list --limit 0", "--limit 0")

	c.stop()
	c.running.forAll.Store(true)
	c.says(ExitFailed, "deadletter requeue --all --wait 300ms", "0 of 3 handled", "no program runs on this database", "2 left as they were")
	if out, _, _ := c.call("deadletter", "requeue", "--all", "--wait", "300ms", "--json"); !strings.Contains(out, `"running":false`) {
		t.Errorf("JSON does not say that no program runs: %s", out)
	}
	c.up()
	c.until("what was requeued is handled at the start", func() bool { return len(c.aside()) == 2 })
	c.says(ExitOK, "deadletter requeue --all", "2 of 2 handled")
}
