package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/courante-dev/courante/internal/telemetry"
)

// Exit codes of a program.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// cli is the command line. Flags that several commands share are in the
// globals; what a flag is called in the environment stands beside it.
type cli struct {
	Globals

	Up         upCommand         `cmd:"" group:"run" help:"Run everything in one process, on an embedded PostgreSQL."`
	Serve      serveCommand      `cmd:"" group:"run" help:"Run services of a fleet, each in as many processes as you like."`
	Fleet      fleetCommand      `cmd:"" group:"run" help:"Run every service in processes of its own on this machine, over RabbitMQ."`
	Relay      relayCommand      `cmd:"" group:"run" help:"Send events of services to the broker, apart from them."`
	Gateway    gatewayCommand    `cmd:"" group:"run" help:"Answer at one address for all services of a fleet."`
	Migrate    migrateCommand    `cmd:"" group:"run" help:"Bring the database up to date before a new version starts, or say what that would do."`
	Top        topCommand        `cmd:"" group:"look" help:"Watch the system live: what is wrong, rates, lags, sagas, the database."`
	Events     eventsCommand     `cmd:"" group:"look" help:"Watch events, or look at one and what it led to."`
	Saga       sagaCommand       `cmd:"" group:"look" help:"Check the sagas, draw them, or see where one stands."`
	Routes     routesCommand     `cmd:"" group:"look" help:"Show who emits which event, who receives it, by which transport and why."`
	Schema     schemaCommand     `cmd:"" group:"look" help:"Write down what events look like, or check the code against what was written down."`
	Audit      auditCommand      `cmd:"" group:"look" help:"Show what operators did to the system, and in whose name."`
	Deadletter deadletterCommand `cmd:"" group:"mend" help:"See the messages that are set aside; try out, requeue or discard them."`
	Subscriber subscriberCommand `cmd:"" group:"mend" help:"See how far subscribers are; add, retire or repair one."`
	Log        logCommand        `cmd:"" group:"mend" help:"See the parts of the logs; close, seal, detach or attach one."`
	Projection projectionCommand `cmd:"" group:"mend" help:"See how the read models stand; rebuild, switch, pause or discard one."`
	Version    versionCommand    `cmd:"" group:"measure" help:"Print the version and what it runs on."`
}

// Globals are the flags of every command.
type Globals struct {
	JSON      bool        `name:"json" help:"Print JSON for programs instead of text for people."`
	Data      string      `placeholder:"DIR" default:"./courante-data" env:"COURANTE_DATA" help:"Folder of the embedded system, by default ${default} (${env})."`
	Config    string      `placeholder:"FILE" env:"COURANTE_CONFIG" help:"YAML file with settings, named like the flags (${env})."`
	LogFormat string      `enum:"auto,json,text" default:"auto" env:"COURANTE_LOG_FORMAT" help:"Log lines as json or text; auto is text on a terminal (${env})."`
	LogLevel  *slog.Level `placeholder:"LEVEL" env:"COURANTE_LOG_LEVEL" help:"Least level that is logged: debug, info, warn or error; by default info for up, warn for the rest (${env})."`

	// PostgresURL may hold a password, and a command line is seen by everybody
	// on the machine: it comes from the environment or the file only.
	PostgresURL string `kong:"-"`
}

// Program is one run of the command line: what a command needs beside its own
// flags.
type Program struct {
	Stdout, Stderr io.Writer
	Globals        *Globals
	Log            *slog.Logger

	app      *App
	commands *regexp.Regexp // "courante NAME", of the commands that there are
}

// ErrReported fails a command whose output has said why.
var ErrReported = errors.New("reported")

// UsageError is a mistake in how the command was called.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// run runs one command line and returns its exit code. Errors are printed
// here, once, with what to do about them and never with a stack trace.
func (p *Program) run(ctx context.Context, given []string) (code int) {
	defer func() {
		// kong's help ends by calling its exit function, which must not return.
		switch v := recover().(type) {
		case nil:
		case helped:
			if code = int(v); len(given) == 0 {
				code = ExitUsage
			}
		default:
			panic(v)
		}
	}()
	var c cli
	parser, err := p.parser(&c)
	if err != nil {
		return p.fail(err, ExitFailed)
	}
	args := given
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return p.fail(p.usageHint(err), ExitUsage)
	}
	p.Globals = &c.Globals
	p.Log = p.logger(parsed.Command())
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(p)
	var usage UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrReported):
		return ExitFailed
	case errors.As(err, &usage):
		return p.fail(err, ExitUsage)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitOK // the person at the keyboard ended it
	}
	return p.fail(err, ExitFailed)
}

// helped is the exit code with which the help ends.
type helped int

func (p *Program) parser(c *cli) (*kong.Kong, error) {
	settings := &settings{globals: &c.Globals}
	if p.app.Flags != nil {
		c.Up.Own = kong.Plugins{p.app.Flags}
	}
	options := []kong.Option{
		kong.Name(p.app.Name),
		kong.Description(p.app.About + "\n\n" +
			"Begin with \"courante up\". Every flag can also be set by its COURANTE_ variable, or in a YAML file (--config). " +
			"COURANTE_POSTGRES_URL names a PostgreSQL of your own to use instead of the embedded one."),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(helped(code)) }),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run"}, {Key: "look", Title: "Look"}, {Key: "mend", Title: "Mend"}, {Key: "measure", Title: "Measure"},
		}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Resolvers(settings),
		kong.PostBuild(p.learn),
	}
	for _, own := range p.app.Commands {
		options = append(options, kong.DynamicCommand(own.Name, own.Help, own.Group, own.Value))
	}
	return kong.New(c, options...)
}

// usageHint adds to a mistake on the command line where to read on.
func (p *Program) usageHint(err error) error {
	command := p.app.Name
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		command = parse.Context.Model.Name
		for _, step := range parse.Context.Path {
			if step.Command != nil {
				command += " " + step.Command.Name
			}
		}
	}
	return fmt.Errorf("%w\nSee: %s --help", err, command)
}

func (p *Program) fail(err error, code int) int {
	fmt.Fprintf(p.Stderr, "%s: %s\n", p.app.Name, strings.TrimSpace(p.own(err.Error())))
	return code
}

// Println tells the person at the keyboard something that is no result.
func (p *Program) Println(text string) { fmt.Fprintln(p.Stderr, p.own(text)) }

// PrintJSON writes a value as one line.
func (p *Program) PrintJSON(v any) error {
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Progress tells the person at the keyboard how far a long command is. Its
// result is on standard output, so this disturbs no program that reads it.
func (p *Program) Progress(format string, args ...any) {
	p.Println("  " + fmt.Sprintf(format, args...))
}

// logger logs what up does; of a tool that ends by itself, only what goes wrong.
func (p *Program) logger(command string) *slog.Logger {
	level := slog.LevelWarn
	if command == "up" {
		level = slog.LevelInfo
	}
	if p.Globals.LogLevel != nil {
		level = *p.Globals.LogLevel
	}
	terminal := IsTerminal(p.Stderr)
	text := p.Globals.LogFormat == "text" || p.Globals.LogFormat == "auto" && terminal
	return telemetry.NewLogger(p.Stderr, telemetry.LogConfig{
		Service: p.app.Name, Version: version().Version, Level: level,
		Text: text, Color: text && terminal && os.Getenv("NO_COLOR") == "",
	})
}

// IsTerminal reports whether people read what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
