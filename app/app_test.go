package app

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

type lent struct {
	Book string `json:"book"`
}

func (lent) EventType() string { return "library.lent" }

// library is a program of another name and domain than the one that texts of
// the framework have in mind.
func library(flags any) App {
	declare := func() []*courante.Service {
		s := courante.NewService("loans")
		s.Emits(courante.Critical, lent{})
		courante.Stored[struct{}](s, "loan")
		return []*courante.Service{s}
	}
	return App{
		Name: "library", About: "Loans of a library.", Declare: declare, Flags: flags,
		Open: func(context.Context, *Env) ([]Context, error) { return []Context{Only(declare()[0])}, nil },
	}
}

func runLibrary(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = library(nil).Run(t.Context(), &out, &errs, args...)
	return out.String(), errs.String(), code
}

// TestOwnWords: who calls a program by its name, about its own events, must not
// be told to call another one about those of a shop.
func TestOwnWords(t *testing.T) {
	t.Setenv("COURANTE_POSTGRES_URL", "")
	empty := t.TempDir()
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"--help", ExitOK, `Begin with "library up"`},
		{"events --help", ExitOK, "library events show loans/loan:first@1"},
		{"events tail --help", ExitOK, "library events tail --from start --type library.lent"},
		{"subscriber repair --help", ExitOK, "library subscriber repair loans"},
		{"events tail --data " + empty, ExitFailed, `Start it with "library up"`},
		{"events --huh", ExitUsage, "See: library events --help"},
		{"routes", ExitOK, "library.lent"},
	} {
		out, errs, code := runLibrary(t, strings.Fields(tt.args)...)
		said := out + errs
		if code != tt.code || !strings.Contains(said, tt.says) {
			t.Errorf("library %s: code %d, want %d and %q in\n%s", tt.args, code, tt.code, tt.says, said)
		}
		for _, other := range []string{"courante up", "courante events", "courante subscriber", "{log}", "{event}", "{stream}", "{subscriber}", "shop."} {
			if strings.Contains(said, other) {
				t.Errorf("library %s says %q:\n%s", tt.args, other, said)
			}
		}
	}
}

type ownFlags struct {
	Patience time.Duration `default:"10s" env:"COURANTE_PATIENCE"`
	Fine     int           `default:"1" env:"COURANTE_FINE"`
	Days     int           `default:"1" env:"COURANTE_DAYS"`
}

// TestSettings wants flags before the environment before the file.
func TestSettings(t *testing.T) {
	const file = "listen: file:1\npatience: 3s\nfine: 4\ndays: 5\npostgres_url: postgres://file/db\n"
	name := filepath.Join(t.TempDir(), "courante.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COURANTE_POSTGRES_URL", "")
	t.Setenv("COURANTE_CONFIG", name)
	t.Setenv("COURANTE_LISTEN", "env:1")
	t.Setenv("COURANTE_FINE", "30")
	parse := func(args ...string) (cli, ownFlags) {
		t.Helper()
		var c cli
		var own ownFlags
		p := &Program{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, app: library(&own).withDefaults()}
		parser, err := p.parser(&c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			t.Fatal(err)
		}
		return c, own
	}
	c, own := parse("up", "--listen", "flag:1", "--days", "7")
	if want := (ownFlags{3 * time.Second, 30, 7}); c.Up.Listen != "flag:1" || own != want {
		t.Errorf("got address %q and %+v, want the flag's address and days, the environment's fine and the file's patience", c.Up.Listen, own)
	}
	if c.PostgresURL != "postgres://file/db" || c.Data != "./courante-data" {
		t.Errorf("got database %q and data %q, want those of the file and of the default", c.PostgresURL, c.Data)
	}
	t.Setenv("COURANTE_POSTGRES_URL", "postgres://env/db")
	if c, _ := parse("up"); c.PostgresURL != "postgres://env/db" || c.Up.Listen != "env:1" {
		t.Errorf("got database %q and address %q, want the environment's", c.PostgresURL, c.Up.Listen)
	}
}

// TestScreen: a terminal has one line that changes, a log gets a line now and
// then and at once when it is urgent, a program gets nothing.
func TestScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &Program{Stderr: &out, Globals: &Globals{}}
	terminal := p.Screen()
	terminal.live = true
	terminal.Say(0, false, "a long story")
	terminal.Say(0, false, "a word")
	terminal.End()
	if got := out.String(); strings.Contains(got, "\n") || !strings.HasSuffix(got, strings.Repeat(" ", len("a word"))+"\r") {
		t.Errorf("a terminal gets %q, want one line, cleared in the end", got)
	}
	out.Reset()
	log := p.Screen()
	for second := range 25 {
		log.Say(time.Duration(second)*time.Second, second == 3, "a line")
	}
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("a log of 25 seconds gets %d lines, want one that was urgent and two more:\n%s", got, out.String())
	}
	out.Reset()
	p.Globals.JSON = true
	if log.Say(time.Hour, true, "a line"); out.Len() > 0 {
		t.Errorf("a program gets %q, want nothing", out.String())
	}
}
