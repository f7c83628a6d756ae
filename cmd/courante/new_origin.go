package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/courante-dev/courante/app"
)

// module is the framework's own.
const module = "github.com/courante-dev/courante"

// origin is what a new project is built on; one of the two is set.
type origin struct {
	version string // of the module, as a proxy knows it
	dir     string // of the source
}

func (o origin) String() string {
	if o.dir != "" {
		return "in " + o.dir
	}
	return o.version
}

// query is what Go takes for a version: v1.2.3, latest, a branch or a commit.
var query = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_-]*$`)

// findOrigin is what the person asked for, or what this program was built from.
func findOrigin(asked string) (origin, error) {
	switch info, err := os.Stat(asked); {
	case asked == "":
		var self debug.Module
		if info, ok := debug.ReadBuildInfo(); ok {
			self = info.Main
		}
		_, file, _, _ := runtime.Caller(0)
		return builtFrom(self, file)
	case err == nil && info.IsDir():
		dir, err := filepath.Abs(asked)
		if err != nil {
			return origin{}, err
		}
		if !isSource(dir) {
			return origin{}, app.UsageError{Err: fmt.Errorf("--courante %s: the folder does not hold the module %s", asked, module)}
		}
		return origin{dir: dir}, nil
	case query.MatchString(asked):
		return origin{version: asked}, nil
	}
	return origin{}, app.UsageError{Err: fmt.Errorf("--courante %s: there is no such folder, and it is no version such as v0.3.0", asked)}
}

// builtFrom finds out what this program was built from. One that "go install" made
// from a published version knows it, with its checksum; one that was built in a
// working tree is of a version that nobody else has, and knows this file, unless
// -trimpath took its folder away.
func builtFrom(main debug.Module, file string) (origin, error) {
	if published(main) {
		return origin{version: main.Version}, nil
	}
	if filepath.IsAbs(file) {
		if dir := filepath.Join(filepath.Dir(file), "..", ".."); isSource(dir) {
			return origin{dir: dir}, nil
		}
	}
	return origin{}, errors.New("this program does not know what it was built from, so it cannot say what the new one is to be built on.\n" +
		"Say it with a folder or a version: courante new NAME --courante PATH|VERSION")
}

// released is a version with a tag: not of a commit between two, and not of
// files that were changed.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-(alpha|beta|rc)\.?\d+)?$`)

func published(m debug.Module) bool {
	return m.Path == module && (m.Sum != "" || released.MatchString(m.Version))
}

// isSource reports whether the folder holds the framework's module.
func isSource(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first) == "module "+module
}

// require makes the folder a module that is built on the origin.
func (o origin) require(ctx context.Context, p *app.Program, dir, path string) error {
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return errors.New("there is no Go on this machine; install it from https://go.dev/dl")
		}
		if err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	if !p.Globals.JSON {
		p.Progress("finding the modules that it needs")
	}
	steps := [][]string{{"mod", "init", path}, {"get", module + "@" + o.version}, {"mod", "tidy"}}
	if o.dir != "" {
		steps[1] = []string{"mod", "edit", "-require=" + module + "@v0.0.0", "-replace=" + module + "=" + o.dir}
	}
	for _, step := range steps {
		if err := run(step...); err != nil {
			return err
		}
	}
	return nil
}
