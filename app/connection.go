package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

// connectionFile is where up and fleet leave, in their data folder, how to reach
// their embedded server, for the commands that look at a running system. Only its
// owner may read it.
const connectionFile = "courante.json"

// Connection is how to reach a system that runs here.
type Connection struct {
	URL  string   `json:"url"`  // of its database
	HTTP []string `json:"http"` // where its programs answer
	PID  int      `json:"pid"`  // of the one that began it
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data folder: %w; choose another with --data or COURANTE_DATA", err)
	}
	return nil
}

func writeConnection(dir, url string, http ...string) error {
	text, err := json.Marshal(Connection{URL: url, HTTP: http, PID: os.Getpid()})
	if err != nil {
		return err
	}
	// Written beside and moved, so that it is never read half.
	file := filepath.Join(dir, connectionFile)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return fmt.Errorf("write how to connect: %w", err)
	}
	return os.Rename(file+".new", file)
}

func removeConnection(dir string) error {
	err := os.Remove(filepath.Join(dir, connectionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// FindDatabase returns the URL of the database to look at.
func (g *Globals) FindDatabase() (string, error) {
	if g.PostgresURL != "" {
		return g.PostgresURL, nil
	}
	c, err := g.Connection()
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("nothing is running on %s.\nStart it with \"courante up\", name its folder with --data or COURANTE_DATA, or its database with COURANTE_POSTGRES_URL", g.Data)
	}
	return c.URL, err
}

// Connection returns what the system of the data folder left when it started.
// The error wraps [fs.ErrNotExist] if none is running; one that was killed may
// have left its own.
func (g *Globals) Connection() (c Connection, err error) {
	text, err := os.ReadFile(filepath.Join(g.Data, connectionFile))
	if err != nil {
		return c, fmt.Errorf("find the running system: %w", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("find the running system: %s: %w", connectionFile, err)
	}
	return c, nil
}

// DatabaseForWork returns the database of a running system, or, if none runs,
// starts the embedded server for as long as the command takes: until stop.
func (p *Program) DatabaseForWork(ctx context.Context) (url string, stop func(), err error) {
	if url, err = p.Globals.FindDatabase(); err == nil {
		return url, func() {}, nil
	}
	return p.StartServer(ctx)
}

// StartServer starts the embedded server of the data folder, without services,
// until stop, and returns the URL of the program's database on it.
func (p *Program) StartServer(ctx context.Context) (url string, stop func(), err error) {
	dir, err := p.Globals.DataDir()
	if err != nil {
		return "", nil, err
	}
	server, err := postgres.StartServer(ctx, postgres.ServerConfig{Dir: filepath.Join(dir, "postgres"), Logger: p.Log})
	if err != nil {
		return "", nil, err
	}
	stop = func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverEnd)
		defer cancel()
		if err := server.Stop(limit); err != nil {
			p.Log.Warn("PostgreSQL did not stop cleanly", "error", err)
		}
	}
	if err := server.CreateDatabase(ctx, p.app.Database); err != nil {
		stop()
		return "", nil, err
	}
	return server.URL(p.app.Database), stop, nil
}

// openExisting opens a database that a program of ours runs on, to look at it or
// to act on it. It creates nothing, so that a command that was given the wrong
// database leaves it as it was.
func (p *Program) openExisting(ctx context.Context, url string) (*postgres.Database, []string, error) {
	db, err := postgres.OpenExisting(ctx, postgres.Config{URL: url, MaxConns: 2, Committers: 1, Logger: p.Log})
	if errors.Is(err, postgres.ErrUnprepared) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w\nIs the system running? Start it with \"courante up\"", err)
	}
	logs, err := db.Logs(ctx)
	if err == nil {
		err = p.checkLogs(logs)
	}
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, logs, nil
}

var (
	errForeign = errors.New("this database is another program's")
	errUnused  = errors.New("nothing was ever kept in this database.\nIs it the right one? Start the system on it with \"courante up\"")
)

// wrongDatabase reports whether the error says that the database is not the one
// that is meant, which does not change by looking again.
func wrongDatabase(err error) bool {
	return errors.Is(err, errForeign) || errors.Is(err, errUnused) || errors.Is(err, postgres.ErrUnprepared)
}

// checkLogs refuses a database that has logs and none of this program's.
func (p *Program) checkLogs(logs []string) error {
	var own []string
	for _, svc := range p.app.Declare() {
		if slices.Contains(logs, svc.Name()) {
			return nil
		}
		own = append(own, svc.Name())
	}
	if len(logs) == 0 {
		return errUnused
	}
	return fmt.Errorf("%w: it has the logs %s, and this program has %s.\nCall that program, or name the right database with --data, COURANTE_DATA or COURANTE_POSTGRES_URL",
		errForeign, strings.Join(logs, ", "), strings.Join(own, ", "))
}

// visitor is a look at a system that runs elsewhere: its database, and the
// program's declarations on its stores. Nothing of it runs here.
type visitor struct {
	db       *postgres.Database
	declared []*courante.Service
	mounts   []courante.Mount // of those that have a log in this database
	stores   map[string]*postgres.Store
}

// visit connects to the running system's database.
func (p *Program) visit(ctx context.Context) (*visitor, error) {
	url, err := p.Globals.FindDatabase()
	if err != nil {
		return nil, err
	}
	db, logs, err := p.openExisting(ctx, url)
	if err != nil {
		return nil, err
	}
	v := &visitor{db: db, declared: p.app.Declare(), stores: map[string]*postgres.Store{}}
	for _, svc := range v.declared {
		if !slices.Contains(logs, svc.Name()) {
			continue // it has a database of its own, or never ran
		}
		store, err := db.ExistingStore(ctx, svc.Name())
		if err != nil {
			db.Close()
			return nil, err
		}
		v.stores[svc.Name()] = store
		v.mounts = append(v.mounts, courante.Mount{Service: svc, Store: store})
	}
	return v, nil
}

// log returns the store of a log by name.
func (v *visitor) log(name string) (*postgres.Store, error) {
	if s := v.stores[name]; s != nil {
		return s, nil
	}
	return nil, UsageError{fmt.Errorf("there is no log %q; there are: %v", name, names(v.names()))}
}

// names are those of the services of this program.
func (v *visitor) names() map[string]bool {
	known := map[string]bool{}
	for name := range v.stores {
		known[name] = true
	}
	return known
}

// anyLog is log for the log of a context that may be of another program.
func (v *visitor) anyLog(ctx context.Context, name string) (*postgres.Store, error) {
	registered, err := v.db.Logs(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(registered, name) {
		return nil, UsageError{fmt.Errorf("there is no log %q; there are: %v", name, registered)}
	}
	return v.db.ExistingStore(ctx, name)
}

// all returns the stores of all logs of the database: those of this program in
// its order, then the others.
func (v *visitor) all(ctx context.Context) ([]*postgres.Store, error) {
	var stores []*postgres.Store
	for _, m := range v.mounts {
		stores = append(stores, v.stores[m.Service.Name()])
	}
	registered, err := v.db.Logs(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range registered {
		if v.stores[name] != nil {
			continue
		}
		store, err := v.db.ExistingStore(ctx, name)
		if err != nil {
			return nil, err
		}
		stores = append(stores, store)
	}
	return stores, nil
}

// subscriptions are the logs that a subscriber was ever added to and is not
// retired from.
func (v *visitor) subscriptions(ctx context.Context, subscriber *postgres.Store) ([]string, error) {
	stores, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	var logs []string
	for _, source := range stores {
		epochs, err := subscriber.LaneEpochs(ctx, subscriber.Log(), source.Log())
		if err != nil {
			return nil, err
		}
		if n := len(epochs); n > 0 && !epochs[n-1].Retired {
			logs = append(logs, source.Log())
		}
	}
	return logs, nil
}

// sources are the logs that each service reacts to events of.
func (v *visitor) sources() map[string][]string {
	emitter := map[string]string{}
	for _, svc := range v.declared {
		for _, t := range svc.Events() {
			emitter[t.Name] = svc.Name()
		}
	}
	sources := map[string][]string{}
	for _, svc := range v.declared {
		logs := map[string]bool{}
		for _, st := range svc.Manifest().Steps {
			if from := emitter[st.Trigger]; st.On == "event" && from != "" {
				logs[from] = true
			}
		}
		sources[svc.Name()] = names(logs)
	}
	return sources
}

func (v *visitor) close() { v.db.Close() }
