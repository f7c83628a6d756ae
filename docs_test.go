package courante_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testName is a test in a document: `postgres.TestTickersRace`, where the package
// is its folder and courante the module's own.
var testName = regexp.MustCompile("`(?:([a-z/]+)\\.)?((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")

// TestGuaranteesNameTestsThatExist holds the page that says which test attacks
// which guarantee to the tests that there are.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	attacked := map[string]int{}
	guarantee := ""
	for line := range strings.Lines(string(page)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			guarantee, _, _ = strings.Cut(heading, ".")
		}
		for _, m := range testName.FindAllStringSubmatch(line, -1) {
			folder, name := m[1], m[2]
			switch {
			case name == "TestGuaranteesNameTestsThatExist":
				continue
			case folder == "":
				t.Errorf("%s lacks its package", name)
				continue
			case folder == "courante":
				folder = "."
			}
			attacked[guarantee]++
			if ok, err := declaresTest(folder, name); err != nil || !ok {
				t.Errorf("%s is named and not there, %v", m[0], err)
			}
		}
	}
	for n := 1; n <= 8; n++ {
		// Nothing attacks what is not built, which is what the page says of it.
		g := fmt.Sprintf("G%d", n)
		if unbuilt := g == "G6"; unbuilt != (attacked[g] == 0) {
			t.Errorf("%s is attacked by %d tests", g, attacked[g])
		}
	}
}

// declaresTest reports whether a test file of the folder declares the function.
func declaresTest(folder, name string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return false, err
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == name {
				return true, nil
			}
		}
	}
	return false, nil
}
