// Package app makes a program of your services: one binary that runs them on an
// embedded PostgreSQL or on one of your own, answers HTTP, and has the commands
// that people need to look at such a system and to mend it.
//
// An [App] says what the program is. Declare gives the services as they are
// declared, for commands that only look; Open makes those that "up" runs, with
// whatever they call outside:
//
//	func main() {
//		app.Main(app.App{
//			Name:    "library",
//			About:   "Lends books.",
//			Declare: func() []*courante.Service { return []*courante.Service{NewDesk().Service()} },
//			Open: func(context.Context, *app.Env) ([]app.Context, error) {
//				return []app.Context{NewDesk()}, nil
//			},
//		})
//	}
//
// A [Context] is a service and its HTTP routes; [Only] is one without routes.
// [Env] is what Open finds: the folder for files, the database, a logger.
//
// Flags of the program's own go into App.Flags, and work as flags, in the
// environment and in the YAML file. A [Command] of its own gets a [Program]:
// where to print, the shared flags, and how to report.
//
// What such a program can do it says itself: run it without arguments.
// "courante new" makes one that works.
package app

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// App is what a program has to say about itself. Name, Declare and Open are
// required.
type App struct {
	// Name is the name of the program, as one calls it in a shell. It is also
	// the name that telemetry goes by.
	Name string

	// About says in a sentence what the program is, for its help.
	About string

	// Title heads the description of the HTTP API; default Name.
	Title string

	// Database is the name of the database on the embedded server; default Name.
	Database string

	// Declare returns the services as they are declared, for commands that look
	// at declarations and at logs. Nothing of them is run, so parties outside
	// may be left out. Each call makes new ones.
	Declare func() []*courante.Service

	// Open makes the services that "up" runs, with what they call outside.
	Open func(ctx context.Context, env *Env) ([]Context, error)

	// Flags is a pointer to a struct with further flags of "up", tagged as the
	// library github.com/alecthomas/kong wants them; may be nil. Open finds the
	// values in it. If it has a method Check() error, that is called first.
	Flags any

	// Explore, if not nil, runs so many simulations of the services from a
	// first seed on, for "saga check --coverage"; see [courantetest.Explore].
	Explore func(ctx context.Context, first, runs uint64, progress func(done uint64)) (*courantetest.Coverage, error)

	// Welcome, if not nil, writes what a person may try once "up" is ready, at
	// the address. other is what further commands need to find this system:
	// nothing, or " --data DIR".
	Welcome func(w io.Writer, url, other string)

	// Commands are further ones.
	Commands []Command
}

// Command is a command of a program's own.
type Command struct {
	Name  string
	Group string // where the help lists it: run, look, mend or measure
	Help  string // a sentence

	// Value is a pointer to a struct as kong wants it: fields are flags and
	// arguments, and Run, which may take a context.Context and a *Program, does
	// it. A method Help() string teaches by example.
	Value any
}

// Context is a bounded context as "up" runs it: a service, and what of it is
// reached over HTTP.
type Context interface {
	Service() *courante.Service
	Routes(api huma.API)
}

// Only is the context of a service without HTTP routes.
func Only(s *courante.Service) Context { return only{s} }

type only struct{ service *courante.Service }

func (o only) Service() *courante.Service { return o.service }
func (only) Routes(huma.API)              {}

// Env is what "up" has for the services that it opens.
type Env struct {
	DatabaseURL string // of the database that holds the logs
	Data        string // folder of the embedded system, for files
	Log         *slog.Logger

	routes []func(api huma.API, mounts []courante.Mount)
	stops  []func()
}

// OnStop has f called when the system has stopped and nothing uses its services
// any more, also if it did not come up.
func (e *Env) OnStop(f func()) { e.stops = append(e.stops, f) }

// Routes has f add routes that belong to no single context, in processes that
// run services. mounts are the services on their stores, those that run here
// first.
func (e *Env) Routes(f func(api huma.API, mounts []courante.Mount)) { e.routes = append(e.routes, f) }

// Main runs the program with the arguments of the process and exits with its
// code: 0, 1 if it failed, 2 if it was called wrongly. A first Ctrl-C stops it
// as its command says, a second one at once.
func Main(a App) { os.Exit(a.main()) }

// main is Main with a result, so that deferred calls happen.
func (a App) main() int {
	collectSeldom()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	p := &Program{Stdout: os.Stdout, Stderr: os.Stderr, app: a.withDefaults()}
	go func() {
		<-signals
		cancel() // once: stop as the command says it stops
		<-signals
		p.Println("Stopped at once. Nothing is lost: the next start recovers.")
		os.Exit(ExitFailed) // the embedded server goes down with its owner
	}()
	return p.run(ctx, os.Args[1:])
}

// Run runs one command line and returns its exit code; see [Main]. It is for
// tests, which want to see what is printed.
func (a App) Run(ctx context.Context, stdout, stderr io.Writer, args ...string) int {
	p := &Program{Stdout: stdout, Stderr: stderr, app: a.withDefaults()}
	return p.run(ctx, args)
}

func (a App) withDefaults() *App {
	if a.Title == "" {
		a.Title = a.Name
	}
	if a.Database == "" {
		a.Database = a.Name
	}
	return &a
}
