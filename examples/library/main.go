// Command library lends books: two services, made into a program by package
// app. Run it without arguments for what it can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/courantetest"
)

func main() { app.Main(program()) }

// settings are flags of "up", and can be set in the environment and a file too.
type settings struct {
	Period time.Duration `default:"336h" env:"COURANTE_PERIOD" help:"How long a book is lent (${env})."`
}

// Check refuses a period in which nobody can read.
func (s *settings) Check() error {
	if s.Period <= 0 {
		return errors.New("a period must be longer than nothing, such as --period 336h")
	}
	return nil
}

func program() app.App {
	flags := &settings{}
	return app.App{
		Name:  "library",
		About: "Lends books, and reminds those who are late.",
		Flags: flags,
		Declare: func() []*courante.Service {
			return []*courante.Service{NewDesk(flags.Period).Service(), NewLetters(nil)}
		},
		Open: func(_ context.Context, env *app.Env) ([]app.Context, error) {
			out := filepath.Join(env.Data, "letters")
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, fmt.Errorf("make the folder of letters: %w", err)
			}
			return []app.Context{NewDesk(flags.Period), app.Only(NewLetters(toFolder(out)))}, nil
		},
		Explore: func(ctx context.Context, first, runs uint64, progress func(uint64)) (*courantetest.Coverage, error) {
			return courantetest.Explore(ctx, first, runs, newTown, progress)
		},
		Welcome: func(w io.Writer, url, _ string) {
			fmt.Fprintf(w, "  curl -s %s/v1/loans -H 'Content-Type: application/json' -d '{\"loan\": \"first\", \"book\": \"Emma\", \"reader\": \"Ann\"}'\n", url)
			fmt.Fprintf(w, "  curl -s %s/v1/loans/first\n", url)
			fmt.Fprintf(w, "  curl -s %s/v1/readers/Ann/loans\n", url)
			fmt.Fprintf(w, "  curl -s -X POST %s/v1/loans/first/return\n\n", url)
		},
	}
}

// toFolder is a post office that puts each letter into a file named after its
// key, so that the same letter twice is one file.
func toFolder(dir string) func(context.Context, string, Letter) error {
	return func(_ context.Context, key string, l Letter) error {
		name := strings.NewReplacer("/", "_", ":", "_").Replace(key) + ".txt"
		text := fmt.Sprintf("Dear %s, please bring back %q.\n", l.Reader, l.Book)
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
}
