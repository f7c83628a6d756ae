package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

// httpTarget is the system that the bench loads.
type httpTarget struct {
	p          *app.Program // on the system's data
	address    string
	debugURL   string // of the profiler, "" if there is none
	pid        int
	postmaster int
	db         *postgres.Database
	stops      []func() error // last first
}

// target starts the system, or finds the one that runs.
func (c *benchHTTPCommand) target(ctx context.Context, p *app.Program) (_ *httpTarget, err error) {
	t := &httpTarget{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close(ctx))
		}
	}()
	own, globals := *p, *p.Globals
	own.Globals, t.p = &globals, &own
	if c.URL == "" {
		err = t.start(ctx, c.Profiles != "")
	} else {
		err = t.find(c.URL)
	}
	if err != nil {
		return nil, err
	}
	system, err := globals.Connection()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing is running on %s; name the folder of the system at --url with --data", globals.Data)
	}
	if err != nil {
		return nil, err
	}
	t.pid = system.PID
	if t.db, err = postgres.OpenExisting(ctx, postgres.Config{URL: system.URL, MaxConns: 2, Logger: p.Log}); err != nil {
		return nil, err
	}
	t.stops = append(t.stops, func() error { t.db.Close(); return nil })
	t.postmaster, err = findPostmaster(ctx, t.db)
	return t, err
}

func (t *httpTarget) find(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return app.UsageError{Err: fmt.Errorf("--url %q is not like http://127.0.0.1:8080", text)}
	}
	t.address = u.Host
	return nil
}

// start runs the system on a new folder. What it logs, a line for each request,
// goes to a file, as it would in earnest.
func (t *httpTarget) start(ctx context.Context, profiles bool) error {
	dir, err := os.MkdirTemp("", "courante-bench-")
	if err != nil {
		return err
	}
	t.stops = append(t.stops, func() error { return os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user if we are root
		return err
	}
	log, err := os.Create(filepath.Join(dir, "up.log"))
	if err != nil {
		return err
	}
	t.stops = append(t.stops, log.Close)
	var flags []string
	if profiles {
		flags = []string{"--debug-listen", "127.0.0.1:0"}
	}
	ready, stop, err := startChild(ctx, t.p, dir, log, flags...)
	if err != nil {
		said, _ := os.ReadFile(log.Name()) // it is in the error if it can be read
		return fmt.Errorf("%w\n%s", err, said)
	}
	t.stops = append(t.stops, func() error { stop(); return nil })
	t.p.Globals.Data, t.p.Globals.PostgresURL = dir, ""
	t.debugURL = ready.Debug
	return t.find(ready.URL)
}

func (t *httpTarget) close(context.Context) error {
	var errs []error
	for i := len(t.stops) - 1; i >= 0; i-- {
		errs = append(errs, t.stops[i]())
	}
	t.stops = nil
	return errors.Join(errs...)
}

// processes is CPU time by who used it.
type processes struct {
	Client     float64 `json:"client"`
	Program    float64 `json:"program"`
	PostgreSQL float64 `json:"postgresql"`
}

func (t *httpTarget) cpu() (c processes, err error) {
	client, err := readStat(os.Getpid())
	if err != nil {
		return c, err
	}
	program, err := readStat(t.pid)
	if err != nil {
		return c, err
	}
	server, err := cpuOfServer(t.postmaster)
	return processes{client.own.Seconds(), program.own.Seconds(), server.Seconds()}, err
}

// cost is what a phase used, and what else it achieved.
type cost struct {
	cpu       processes
	seconds   float64
	confirmed int
}

// share spreads the cost over the requests of the loads of the phase.
func (c cost) share(phases ...*httpPhase) {
	n := 0
	for _, phase := range phases {
		n += phase.N
	}
	per := 1000 / float64(max(n, 1))
	for _, phase := range phases {
		phase.CPU = processes{c.cpu.Client * per, c.cpu.Program * per, c.cpu.PostgreSQL * per}
		phase.Confirmed = float64(c.confirmed) / c.seconds
	}
}

// phase runs loads for a while and measures what they cost.
func (t *httpTarget) phase(ctx context.Context, lasts time.Duration, profile string, loads func(context.Context) error) (cost, error) {
	before, err := t.confirmed(ctx)
	if err != nil {
		return cost{}, err
	}
	from, err := t.cpu()
	if err != nil {
		return cost{}, err
	}
	start := time.Now()
	timed, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	err = both(
		func() error { return loads(timed) },
		func() error { return t.profile(ctx, profile, lasts) })
	if err := errors.Join(err, ctx.Err()); err != nil {
		return cost{}, err
	}
	to, err := t.cpu()
	if err != nil {
		return cost{}, err
	}
	c := cost{seconds: time.Since(start).Seconds(),
		cpu: processes{to.Client - from.Client, to.Program - from.Program, to.PostgreSQL - from.PostgreSQL}}
	after, err := t.confirmed(ctx)
	c.confirmed = after - before
	return c, err
}

// confirmed counts the orders that have come to their end.
func (t *httpTarget) confirmed(ctx context.Context) (n int, err error) {
	err = t.db.Pool().QueryRow(ctx, "select count(*) from ordering.event where type = 'shop.order_confirmed'").Scan(&n)
	return n, err
}

// profile writes the program's CPU profile of the time given to a file.
func (t *httpTarget) profile(ctx context.Context, file string, lasts time.Duration) error {
	if file == "" {
		return nil
	}
	if t.debugURL == "" {
		return errors.New("profiles need a system that the bench starts itself; leave out --url")
	}
	ask := t.debugURL + "/debug/pprof/profile?seconds=" + strconv.Itoa(int(lasts.Seconds()))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ask, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", ask, res.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, res.Body)
	return errors.Join(err, out.Close())
}

// peak is the most memory that the program had, in MB.
func (t *httpTarget) peak() (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(t.pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
			return float64(n) / 1024, err
		}
	}
	return 0, errors.New("/proc does not say how much memory the program had")
}
