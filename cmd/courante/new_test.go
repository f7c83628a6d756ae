//go:build linux || darwin

package main

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/examples"
)

// TestNewProjectWorks does what a person does who wants a program of his own:
// makes one, tests it, runs it, and uses it.
func TestNewProjectWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir := dataDir(t)
	out, err := command(t, dir, goEnv(t), "new", "my-parcels", "--module", "example.com/my-parcels").CombinedOutput()
	if err != nil {
		t.Fatalf("new: %v\n%s", err, out)
	}
	for _, want := range []string{"Next:", "cd my-parcels", "go test ./...", "go run . up"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("new says\n%s\nand not %q", out, want)
		}
	}
	project := filepath.Join(dir, "my-parcels")
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = project, append(os.Environ(), "GOFLAGS=-mod=mod", "COURANTE_DATA="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("go", "vet", "./...")
	run("go", "test", "./...", "-short", "-count=1")
	run("go", "build", "-o", "program", ".")
	if said := run("./program", "saga", "check"); !strings.Contains(said, "saga loan: ok") {
		t.Errorf("saga check says %q", said)
	}
	if said := run("./program", "events", "--help"); !strings.Contains(said, "my-parcels events tail") {
		t.Errorf("the program does not know its name:\n%s", said)
	}

	cmd := exec.Command(filepath.Join(project, "program"), "up", "--json", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "COURANTE_DATA="+dir)
	p := startUp(t, cmd)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.ready.URL+"/v1/loans",
		strings.NewReader(`{"loan": "first", "book": "Emma", "reader": "Ann"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Errorf("lending a book: %s, want 201", res.Status)
	}
	if said := run("./program", "saga", "show", "first"); !strings.Contains(said, "loans.lent") {
		t.Errorf("saga show says %q, want the loan that was lent", said)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.end(); code != app.ExitOK {
		t.Errorf("the program ended with %d:\n%s", code, p.said())
	}
}

// goEnv is where Go keeps what it has, so that a program in a clean environment
// finds it.
func goEnv(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOMODCACHE", "GOCACHE", "GOPROXY", "GONOSUMDB", "GOSUMDB", "GOTOOLCHAIN"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}

// TestNewRefuses names that do not work everywhere, and never touches a folder
// that holds something.
func TestNewRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("taken", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("taken/notes", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"new", app.ExitUsage, "courante new --help"},
		{"new Parcels", app.ExitUsage, "lower-case letters"},
		{"new ../parcels", app.ExitUsage, "lower-case letters"},
		{"new 1st", app.ExitUsage, "a letter first"},
		{"new func", app.ExitUsage, "a word of the Go language"},
		{"new taken", app.ExitFailed, "not empty"},
		{"new parcels --courante .", app.ExitUsage, "does not hold the module"},
		{"new parcels --courante ./nowhere", app.ExitUsage, "there is no such folder"},
	} {
		_, errs, code := runHere(t, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(errs, tt.says) {
			t.Errorf("courante %s: got %d %q, want %d and %q", tt.args, code, errs, tt.code, tt.says)
		}
	}
	var left []string
	if err := fs.WalkDir(os.DirFS("."), ".", func(path string, _ fs.DirEntry, err error) error {
		left = append(left, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{".", "taken", "taken/notes"}; !slices.Equal(left, want) {
		t.Errorf("there is %v now, want %v", left, want)
	}
}

// TestBuiltFrom: a published version is its own origin, a working tree is its
// folder, and who was built there with -trimpath says which flag to give.
func TestBuiltFrom(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const trimmed = module + "/cmd/courante/new_origin.go"
	file := filepath.Join(root, "cmd", "courante", "new_origin.go")
	for _, tt := range []struct {
		main debug.Module
		file string
		want origin
	}{
		{debug.Module{Path: module, Version: "(devel)"}, file, origin{dir: root}},
		{debug.Module{}, file, origin{dir: root}},
		{debug.Module{Path: module, Version: "v0.3.0+dirty"}, file, origin{dir: root}},
		{debug.Module{Path: module, Version: "v0.3.0"}, trimmed, origin{version: "v0.3.0"}}, // built in a clone at the tag
		{debug.Module{Path: module, Version: "v0.3.0-rc.1"}, trimmed, origin{version: "v0.3.0-rc.1"}},
		{debug.Module{Path: module, Version: "v0.3.1-0.20261123040000-0123456789ab", Sum: "h1:x"}, trimmed, origin{version: "v0.3.1-0.20261123040000-0123456789ab"}},
		{debug.Module{Path: module, Version: "v0.3.1-0.20261123040000-0123456789ab"}, trimmed, origin{}},
		{debug.Module{Path: module, Version: "(devel)"}, trimmed, origin{}},
		{debug.Module{Path: module, Version: "(devel)"}, "/moved/away/cmd/courante/new_origin.go", origin{}},
		{debug.Module{Path: "example.com/fork", Version: "v1.0.0", Sum: "h1:x"}, trimmed, origin{}},
	} {
		got, err := builtFrom(tt.main, tt.file)
		if got != tt.want {
			t.Errorf("%+v in %s: %v, want %v", tt.main, tt.file, got, tt.want)
		}
		if tt.want == (origin{}) && (err == nil || !strings.Contains(err.Error(), "--courante PATH|VERSION")) {
			t.Errorf("%+v in %s: the error is %v, want the flag in it", tt.main, tt.file, err)
		}
	}
}

// TestExampleCanBeRenamed: the name of the example stands for that of the
// program only, where it is replaced.
func TestExampleCanBeRenamed(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"library/main.go", "library/README.md"} {
		text, err := fs.ReadFile(examples.Library, file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			for _, wrong := range []string{" a library", " the library", "ibrary's"} {
				if strings.Contains(strings.ToLower(line), wrong) {
					t.Errorf("%s speaks of libraries: %s", file, line)
				}
			}
		}
	}
}
