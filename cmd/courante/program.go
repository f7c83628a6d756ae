package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/courante-dev/courante/internal/telemetry"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the command line. Flags that several commands share are in the
// globals; what a flag is called in the environment stands beside it.
type cli struct {
	globals

	Up         upCommand         `cmd:"" group:"run" help:"Run everything in one process, on an embedded PostgreSQL."`
	Replay     replayCommand     `cmd:"" group:"run" help:"Send recorded orders to the running system and account for every line."`
	Migrate    migrateCommand    `cmd:"" group:"run" help:"Bring the database up to date before a new version starts, or say what that would do."`
	Events     eventsCommand     `cmd:"" group:"look" help:"Watch events, or look at one and what it led to."`
	Saga       sagaCommand       `cmd:"" group:"look" help:"Check the sagas, draw them, or see where one stands."`
	Routes     routesCommand     `cmd:"" group:"look" help:"Show who emits which event, who receives it, by which transport and why."`
	Schema     schemaCommand     `cmd:"" group:"look" help:"Write down what events look like, or check the code against what was written down."`
	Verify     verifyCommand     `cmd:"" group:"look" help:"Look whether everything that was written adds up."`
	Subscriber subscriberCommand `cmd:"" group:"mend" help:"See how far subscribers are; add, retire or repair one."`
	Log        logCommand        `cmd:"" group:"mend" help:"See the parts of the logs; close, seal, detach or attach one."`
	Bench      benchCommand      `cmd:"" group:"measure" help:"Measure the engine beside what the database could do at most."`
	Version    versionCommand    `cmd:"" group:"measure" help:"Print the version and what it runs on."`
}

// globals are the flags of every command.
type globals struct {
	JSON      bool        `name:"json" help:"Print JSON for programs instead of text for people."`
	Data      string      `placeholder:"DIR" default:"./courante-data" env:"COURANTE_DATA" help:"Folder of the embedded system, by default ${default} (${env})."`
	Config    string      `placeholder:"FILE" env:"COURANTE_CONFIG" help:"YAML file with settings, named like the flags (${env})."`
	LogFormat string      `enum:"auto,json,text" default:"auto" env:"COURANTE_LOG_FORMAT" help:"Log lines as json or text; auto is text on a terminal (${env})."`
	LogLevel  *slog.Level `placeholder:"LEVEL" env:"COURANTE_LOG_LEVEL" help:"Least level that is logged: debug, info, warn or error; by default info for up, warn for the rest (${env})."`

	// PostgresURL may hold a password, and a command line is seen by everybody
	// on the machine: it comes from the environment or the file only.
	PostgresURL string `kong:"-"`
}

// program is one run of the command line.
type program struct {
	stdout, stderr io.Writer
	globals        *globals
	log            *slog.Logger
}

// errReported fails a command whose output has said why.
var errReported = errors.New("reported")

// usageError is a mistake in how the command was called.
type usageError struct{ error }

// run runs one command line and returns its exit code. Errors are printed
// here, once, with what to do about them and never with a stack trace.
func (p *program) run(ctx context.Context, given []string) (code int) {
	defer func() {
		// kong's help ends by calling its exit function, which must not return.
		switch v := recover().(type) {
		case nil:
		case helped:
			if code = int(v); len(given) == 0 {
				code = exitUsage
			}
		default:
			panic(v)
		}
	}()
	var c cli
	parser, err := p.parser(&c)
	if err != nil {
		return p.fail(err, exitFailed)
	}
	args := given
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return p.fail(usageHint(err), exitUsage)
	}
	p.globals = &c.globals
	p.log = p.logger(parsed.Command())
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(p)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		return p.fail(err, exitUsage)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitOK // the person at the keyboard ended it
	}
	return p.fail(err, exitFailed)
}

// helped is the exit code with which the help ends.
type helped int

func (p *program) parser(c *cli) (*kong.Kong, error) {
	settings := &settings{globals: &c.globals}
	return kong.New(c,
		kong.Name("courante"),
		kong.Description("Services that dance to events: a framework, and a shop built on it.\n\n"+
			"Begin with \"courante up\". Every flag can also be set by its COURANTE_ variable, or in a YAML file (--config). "+
			"COURANTE_POSTGRES_URL names a PostgreSQL of your own to use instead of the embedded one."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(code int) { panic(helped(code)) }),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run"}, {Key: "look", Title: "Look"}, {Key: "mend", Title: "Mend"}, {Key: "measure", Title: "Measure"},
		}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Resolvers(settings),
	)
}

// usageHint adds to a mistake on the command line where to read on.
func usageHint(err error) error {
	command := "courante"
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

func (p *program) fail(err error, code int) int {
	fmt.Fprintf(p.stderr, "courante: %s\n", strings.TrimSpace(err.Error()))
	return code
}

// println tells the person at the keyboard something that is no result.
func (p *program) println(text string) { fmt.Fprintln(p.stderr, text) }

// printJSON writes a value as one line.
func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// progress tells the person at the keyboard how far a long command is. Its
// result is on standard output, so this disturbs no program that reads it.
func (p *program) progress(format string, args ...any) {
	p.println("  " + fmt.Sprintf(format, args...))
}

// logger logs what up does; of a tool that ends by itself, only what goes wrong.
func (p *program) logger(command string) *slog.Logger {
	level := slog.LevelWarn
	if command == "up" {
		level = slog.LevelInfo
	}
	if p.globals.LogLevel != nil {
		level = *p.globals.LogLevel
	}
	terminal := isTerminal(p.stderr)
	text := p.globals.LogFormat == "text" || p.globals.LogFormat == "auto" && terminal
	return telemetry.NewLogger(p.stderr, telemetry.LogConfig{
		Service: "courante", Version: version().Version, Level: level,
		Text: text, Color: text && terminal && os.Getenv("NO_COLOR") == "",
	})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
