package main

import (
	"context"
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/examples"
)

type newCommand struct {
	Name     string `arg:"" help:"Name of the program, and of the folder that is made for it."`
	Module   string `placeholder:"PATH" help:"Path of its Go module, such as example.com/parcels; by default the name."`
	Courante string `placeholder:"PATH|VERSION" help:"What it is built on: a folder with the source, or a version such as v0.3.0; by default what this program was built from."`
}

// Help teaches by example.
func (newCommand) Help() string {
	return `Makes a folder with a small program that works: two services that lend books and remind those who are late, with their tests, a simulation and an HTTP API. Change it into yours.

It needs Go, and a network or a module cache for the modules that it uses.

Examples:

  courante new parcels
  courante new parcels --module example.com/parcels
  courante new parcels --courante ../courante      # build on a working tree`
}

// projectName is what a shell, a folder, a database and a telemetry service can
// all be called.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

func (c *newCommand) check() error {
	switch {
	case !projectName.MatchString(c.Name):
		return app.UsageError{Err: fmt.Errorf("%q is no name for a program: take up to 40 lower-case letters, digits and -, a letter first, such as parcels", c.Name)}
	case token.IsKeyword(c.Name):
		return app.UsageError{Err: fmt.Errorf("%q is a word of the Go language; take another name, such as %ss", c.Name, c.Name)}
	}
	if c.Module == "" {
		c.Module = c.Name
	}
	return nil
}

// Run makes the folder and says what to do in it.
func (c *newCommand) Run(ctx context.Context, p *app.Program) error {
	if err := c.check(); err != nil {
		return err
	}
	from, err := findOrigin(c.Courante)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Name)
	if err != nil {
		return err
	}
	files, err := c.write(dir)
	if err != nil {
		return err
	}
	if err := from.require(ctx, p, dir, c.Module); err != nil {
		return fmt.Errorf("%w\nThe files are in %s. Mend it there with: go mod tidy", err, dir)
	}
	if p.Globals.JSON {
		return p.PrintJSON(struct {
			Name     string   `json:"name"`
			Module   string   `json:"module"`
			Dir      string   `json:"dir"`
			Courante string   `json:"courante"`
			Files    []string `json:"files"`
		}{c.Name, c.Module, dir, from.String(), files})
	}
	_, err = fmt.Fprintf(p.Stdout, "Made %s, built on Courante %s.\n\nNext:\n\n  cd %s\n  go test ./...\n  go run . up\n", dir, from, c.Name)
	return err
}

// write copies the example and gives it its name.
func (c *newCommand) write(dir string) (files []string, err error) {
	there, err := os.ReadDir(dir)
	if err == nil && len(there) > 0 {
		return nil, fmt.Errorf("%s is there and not empty; take another name, or empty it first", dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	const library = "library"
	entries, err := fs.ReadDir(examples.Library, library)
	if err != nil {
		return nil, err
	}
	named := regexp.MustCompile(`\b` + library + `\b`)
	for _, e := range entries {
		text, err := fs.ReadFile(examples.Library, library+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		// The other files are about books, and would say nonsense of another name.
		if e.Name() == "main.go" || e.Name() == "README.md" {
			text = named.ReplaceAll(text, []byte(c.Name))
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o644); err != nil {
			return nil, fmt.Errorf("write the files: %w", err)
		}
		files = append(files, e.Name())
	}
	return append(files, "go.mod", "go.sum"), nil
}
