package courante_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages are the documents for people: all Markdown of the project.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "tmp" || d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			text, err := os.ReadFile(path)
			all[path] = string(text)
			return err
		}
		return nil
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("found %d pages, %v", len(all), err)
	}
	return all
}

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	codeFence  = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)\n```$")
)

// TestLinksLeadSomewhere holds every link between pages to files and headings
// that are there.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	all := pages(t)
	anchors := map[string]map[string]bool{}
	for page, text := range all {
		anchors[page] = map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(codeFence.ReplaceAllString(text, ""), -1) {
			slug := notInSlugs.ReplaceAllString(strings.ToLower(m[1]), "")
			anchors[page][strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(codeFence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			} else if anchor != "" && !anchors[target][anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// TestSnippetsAreCompiled holds the Go code of every page to code that is
// compiled and tested: its lines stand together in some Go file.
func TestSnippetsAreCompiled(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, pattern := range []string{"*.go", "examples/*/*.go", "*/example*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.WriteString(bare(string(text)) + "\n")
		}
	}
	found := 0
	for page, text := range pages(t) {
		for _, m := range codeFence.FindAllStringSubmatch(text, -1) {
			if m[1] != "go" {
				continue
			}
			if found++; !strings.Contains(sources.String(), "\n"+bare(m[2])+"\n") {
				t.Errorf("%s shows Go code that is in no example:\n%s", page, m[2])
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d snippets, want those of the guide", found)
	}
}

// bare is Go code without what does not count: empty lines, indentation, and
// the alignment of comments and fields.
func bare(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if words := strings.Fields(line); len(words) > 0 {
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return strings.Join(lines, "\n")
}

// TestGuideChangeWorks makes the change that the guide makes to the example,
// and runs the example's tests: what a reader copies must work.
func TestGuideChangeWorks(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	const library = "examples/library"
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(library)); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/first-domain.md")
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string]string{}
	for _, m := range codeFence.FindAllStringSubmatch(string(page), -1) {
		if m[1] != "diff" {
			continue
		}
		apply := exec.Command("git", "apply", "--unsafe-paths", "-")
		apply.Dir, apply.Stdin = dir, strings.NewReader(m[2]+"\n")
		if out, err := apply.CombinedOutput(); err != nil {
			t.Fatalf("the change does not fit the example: %v\n%s\n%s", err, out, m[2])
		}
		first, _, _ := strings.Cut(m[2], "\n")
		file := strings.TrimPrefix(first, "--- a/")
		abs, err := filepath.Abs(filepath.Join(library, file))
		if err != nil {
			t.Fatal(err)
		}
		changed[abs] = filepath.Join(dir, file)
	}
	if len(changed) != 3 {
		t.Fatalf("the guide changes %v, want three files", changed)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": changed})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "test", "-overlay", file, "-count=1", "-v", "-run", "TestDesk|TestTown", "./"+library).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDesk/who_has_renewed_is_late_a_period_later") {
		t.Errorf("the changed example: %v\n%s", err, out)
	}
}
