package courante_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/courante-dev/courante"

// drawing says who may import whom; what is not drawn is forbidden. A line is
// "packages -> what they may import", and the comment under it is the reason,
// which a failure repeats. "courante" is the root package, names with a slash
// or a folder here are our packages, the others are the modules below. The
// standard library is open to everybody. A drawn package need not exist yet.
//
// Two stars: the framework's centre is courante, the shop's is shop. If a
// change does not fit, change the drawing first, in a commit of its own.
const drawing = `
courante -> otel, pgx, json
	# The root is what everybody imports: what it imports, everybody gets. PostgreSQL is our database, so pgx is in; telemetry is the API only, the SDK is the program's choice; json is encoding/json as Go 1.27 has it, which decodes an event in a quarter of the time, and goes when go.mod says 1.27.

memory -> courante
	# An adapter knows the vocabulary and nothing else; the in-memory one must not need a server.

postgres -> courante, pgx, otel, json, embedded-postgres
	# An adapter knows the vocabulary and its own client, never another adapter: they are exchanged by configuration.

rabbitmq -> courante, amqp
	# As above: it knows the vocabulary and its own client.

redis -> courante, rueidis, otel
	# As above: it knows the vocabulary and its own client.

courantetest -> courante, memory, postgres, internal/rabbitserver, internal/redisserver, pgx
	# Conformance suites and fixtures for tests: they run every implementation, and what ships does not import them, except to simulate itself.

shop ->
	# The published language is what contexts, also those in other programs, share: events, ids and money, without behaviour.

shop/ordering, shop/inventory, shop/payment, shop/shipping, shop/notification -> shop, courante, live, pgx, huma, otel
	# Contexts never call one another, what passes between them is public events; and never an adapter, the program hands those in.

shop/outside -> pgx
	# The simulated parties outside (payment provider, carrier, mail) must not know us: what they share with us would not be outside.

shop/simulation -> shop, shop/ordering, shop/inventory, shop/payment, shop/shipping, shop/notification, shop/outside, courante, courantetest
	# The whole shop in one simulation, with those outside and its customers: it sees everybody, and only the program and tests may see it.

schema -> courante
	# What events look like is made from declarations, and serves domains other than the shop.

live -> courante, huma
	# How an operation tells what happens knows what there is to watch, and how operations are declared.

gateway -> courante, huma, otel
	# The edge carries manners, not business: it knows the vocabulary's errors and no context.

internal/link ->
	# It carries bytes, whatever they mean.

internal/child ->
	# How a process ends with its parent concerns nobody's domain.

internal/rabbitserver, internal/redisserver -> internal/child
	# They start what is installed on the machine, for a fleet and for tests, and know nothing of what it is used for.

internal/telemetry -> otel, otel-sdk, prometheus
	# One place sets telemetry up, so that nothing else depends on the SDK and its exporters.

internal/audit -> courante, pgx
	# Who looks whether the contexts did right must not use their code: it would repeat their mistakes.

app -> courante, postgres, rabbitmq, redis, gateway, schema, courantetest, internal/telemetry, internal/child, internal/rabbitserver, internal/redisserver, pgx, huma, kong, yaml, term
	# A program of anybody's domain: it wires the framework together, and knows no domain, so never the shop.

cmd/courante/internal/replay -> shop, zstd
	# A replay is a caller like any other: it knows the public API and the published language, and nothing of the system behind them.

examples ->
	# It holds the examples' text for those who copy them.

examples/library -> courante, app, courantetest, huma, pgx
	# What a builder writes: the public API, and nothing that he could not import.

cmd/courante -> *
	# The program wires everything, so nothing needs to know what it is wired to.

tests -> courante, memory, postgres, courantetest, pgx, otel, otel-sdk, goleak, rapid, jsonschema
	# Tests and examples run the code on real stores, on top of what their package may import. They may also import the packages below their own, as the test of the whole shop does.
`

// modules are the names of outside modules in the drawing. The longest prefix
// of an import path counts.
var modules = map[string]string{
	"go.opentelemetry.io/otel":                   "otel",
	"go.opentelemetry.io/otel/sdk":               "otel-sdk",
	"go.opentelemetry.io/otel/exporters":         "otel-sdk",
	"go.opentelemetry.io/contrib":                "otel-sdk",
	"github.com/prometheus/client_golang":        "prometheus",
	"github.com/santhosh-tekuri/jsonschema/v6":   "jsonschema",
	"github.com/jackc/pgx/v5":                    "pgx",
	"github.com/go-json-experiment/json":         "json",
	"github.com/jackc/puddle/v2":                 "pgx", // pgxpool lets its errors through
	"github.com/danielgtaylor/huma/v2":           "huma",
	"github.com/fergusstrange/embedded-postgres": "embedded-postgres",
	"github.com/klauspost/compress/zstd":         "zstd",
	"github.com/alecthomas/kong":                 "kong",
	"github.com/rabbitmq/amqp091-go":             "amqp",
	"github.com/redis/rueidis":                   "rueidis",
	"go.yaml.in/yaml/v3":                         "yaml",
	"golang.org/x/term":                          "term",
	"go.uber.org/goleak":                         "goleak",
	"pgregory.net/rapid":                         "rapid",
}

func TestImportsFollowTheDrawing(t *testing.T) {
	t.Parallel()
	problems, err := violations(os.DirFS("."), drawing)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

// TestForbiddenImportsAreFound proves that the test above can fail.
func TestForbiddenImportsAreFound(t *testing.T) {
	t.Parallel()
	const (
		framework = module
		pgx       = "github.com/jackc/pgx/v5/pgxpool"
	)
	tests := []struct {
		rule, file string
		imports    string
		want       string // part of the one problem, "" for none
	}{
		{"contexts know the framework", "shop/payment/payment.go", framework, ""},
		{"contexts do not call one another", "shop/payment/payment.go", module + "/shop/ordering", "Contexts never call one another"},
		{"contexts do not know adapters", "shop/payment/payment.go", module + "/postgres", "never an adapter"},
		{"adapters do not know one another", "memory/store.go", module + "/postgres", "An adapter knows the vocabulary"},
		{"adapters have a client of their own only", "memory/store.go", pgx, "An adapter knows the vocabulary"},
		{"a module that nobody drew", "postgres/store.go", "github.com/lib/pq", "github.com/lib/pq"},
		{"the root takes the telemetry API", "trace.go", "go.opentelemetry.io/otel/trace", ""},
		{"the root leaves the telemetry SDK alone", "trace.go", "go.opentelemetry.io/otel/sdk/trace", "otel-sdk"},
		{"the root knows no package of its own module", "store.go", module + "/memory", "everybody imports"},
		{"a name that only begins alike", "store.go", "github.com/jackc/pgx/v55", "github.com/jackc/pgx/v55"},
		{"a test may use a real store", "shop/payment/payment_test.go", module + "/postgres", ""},
		{"a test does not reach into another context", "shop/payment/payment_test.go", module + "/shop/ordering", "shop/ordering"},
		{"an external test may import its own package", "memory/store_test.go", module + "/memory", ""},
		{"what ships does not import test support", "postgres/store.go", module + "/courantetest", "courantetest"},
		{"the program wires everything", "cmd/courante/main.go", "github.com/alecthomas/kong", ""},
		{"a package outside the drawing", "util/strings.go", "strings", "util is not in the drawing"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			source := "package p\n\nimport _ " + strconv.Quote(tt.imports) + "\n"
			problems, err := violations(fstest.MapFS{tt.file: {Data: []byte(source)}}, drawing)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("%s importing %s: got %q, want no problem", tt.file, tt.imports, problems)
			case tt.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], tt.want)):
				t.Errorf("%s importing %s: got %q, want one problem with %q", tt.file, tt.imports, problems, tt.want)
			}
		})
	}
}

// rule is one line of a drawing.
type rule struct {
	may    []string
	reason string
}

func (r rule) allows(name string) bool {
	return slices.Contains(r.may, name) || slices.Contains(r.may, "*")
}

func parseDrawing(text string) (map[string]rule, error) {
	rules := map[string]rule{}
	var last []string // packages of the line above
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if reason, ok := strings.CutPrefix(line, "# "); ok {
			for _, name := range last {
				r := rules[name]
				r.reason = reason
				rules[name] = r
			}
			continue
		}
		if line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, "->")
		if !ok {
			return nil, fmt.Errorf("drawing: line without an arrow: %q", line)
		}
		last = names(left)
		for _, name := range last {
			if _, twice := rules[name]; twice {
				return nil, fmt.Errorf("drawing: %s is drawn twice", name)
			}
			rules[name] = rule{may: names(right)}
		}
	}
	return rules, nil
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// violations parses every Go file below fsys and returns what is not drawn.
// Files of other systems count as well, which is why go list is no help.
func violations(fsys fs.FS, text string) ([]string, error) {
	rules, err := parseDrawing(text)
	if err != nil {
		return nil, err
	}
	var problems []string
	undrawn := map[string]bool{}
	err = fs.WalkDir(fsys, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "tmp") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		from := packageName(path.Join(module, path.Dir(file)))
		own, drawn := rules[from]
		if !drawn {
			if !undrawn[from] {
				undrawn[from] = true
				problems = append(problems, fmt.Sprintf("package %s is not in the drawing of deps_test.go: say there what it may import, and why", from))
			}
			return nil
		}
		found, err := fileViolations(fsys, file, from, own, rules["tests"])
		problems = append(problems, found...)
		return err
	})
	return problems, err
}

func fileViolations(fsys fs.FS, file, from string, own, tests rule) ([]string, error) {
	source, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	test := strings.HasSuffix(file, "_test.go")
	var problems []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		to := packageName(imported)
		if to == "stdlib" || own.allows(to) || test && (to == from || tests.allows(to) || strings.HasPrefix(to, from+"/")) {
			continue
		}
		if to != imported {
			imported += " (" + to + ")"
		}
		problem := fmt.Sprintf("%s: %s may not import %s. %s", file, from, imported, own.reason)
		if test {
			problem += " " + tests.reason
		}
		problems = append(problems, problem)
	}
	return problems, nil
}

// packageName is the name of an import path in the drawing.
func packageName(importPath string) string {
	if importPath == module {
		return "courante"
	}
	if own, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return own
	}
	if first, _, _ := strings.Cut(importPath, "/"); !strings.Contains(first, ".") {
		return "stdlib"
	}
	for prefix := importPath; prefix != "."; prefix = path.Dir(prefix) {
		if name, ok := modules[prefix]; ok {
			return name
		}
	}
	return importPath
}
