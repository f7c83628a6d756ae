package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/courante-dev/courante"
)

// Finding is what [Check] says about one event type, or about a file of one.
type Finding struct {
	Event   string   `json:"event"`
	Version int      `json:"version"`
	State   State    `json:"state"`
	Changes []Change `json:"changes,omitempty"`
	Fix     string   `json:"fix,omitempty"`
}

// State is how an event type relates to what was written down of it.
type State string

// The states of an event type.
const (
	Same    State = "same"
	New     State = "new"     // nothing is written down of this version yet
	Changed State = "changed" // compatible, and not written down yet
	Breaks  State = "breaks"  // stored events or their readers
)

// Export writes the schema of every event type that the services declare to
// the folder, one file for each type and schema version, and returns what
// [Check] said before. Files of older versions and of types that are gone stay:
// there are events of them. So does the file that a type breaks; if nobody has
// such events yet, delete it first.
func Export(dir string, services ...*courante.Service) ([]Finding, error) {
	findings, err := Check(dir, services...)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, svc := range services {
		for _, t := range svc.Events() {
			if slices.ContainsFunc(findings, func(f Finding) bool { return f.Event == t.Name && f.State == Breaks }) {
				continue
			}
			s, err := Of(svc.Name(), t)
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(dir, fileName(t.Name, t.Schema)), s.encode(), 0o644); err != nil {
				return nil, err
			}
		}
	}
	return findings, nil
}

// Check compares the event types that the services declare with the schemas in
// the folder, and has today's code read the examples in its subfolder
// "examples" of every version that was ever written down. There is a finding
// for each declared event type, in the order declared, and then one for each
// file that no declared type accounts for.
//
// Run it as a test: a type that changes in a way that stored events or their
// readers do not survive is found before it is deployed.
func Check(dir string, services ...*courante.Service) ([]Finding, error) {
	written, err := read(dir)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, svc := range services {
		for _, t := range svc.Events() {
			s, err := Of(svc.Name(), t)
			if err != nil {
				return nil, err
			}
			f := Finding{Event: t.Name, Version: t.Schema, State: New, Fix: "write it down"}
			if was := written[t.Name][t.Schema]; was != nil {
				f.compare(was, s)
			}
			for version := range written[t.Name] {
				if version > t.Schema {
					f.breaks(Change{Breaks: Stored, Detail: fmt.Sprintf("there may be events of version %d, and the code knows up to %d", version, t.Schema)},
						"do not lower SchemaVersion")
				}
			}
			if err := f.readExamples(dir, t, s); err != nil {
				return nil, err
			}
			findings = append(findings, f)
			delete(written, t.Name)
		}
	}
	var gone []Finding
	for name, versions := range written {
		for version := range versions {
			f := Finding{Event: name, Version: version}
			f.breaks(Change{Breaks: Stored, Detail: "no service declares it any more"},
				"a stored name stays for ever: give the type its name back, or keep the old type for reading")
			gone = append(gone, f)
		}
	}
	slices.SortFunc(gone, func(a, b Finding) int { return bytes.Compare([]byte(a.Event), []byte(b.Event)) })
	return append(findings, gone...), nil
}

func (f *Finding) compare(was, is *Schema) {
	f.State, f.Fix, f.Changes = Same, "", Compare(was, is)
	if len(f.Changes) == 0 {
		return
	}
	f.State, f.Fix = Changed, "it is compatible: write it down"
	for _, c := range f.Changes {
		if c.Breaks != Nobody {
			f.State = Breaks
			f.Fix = fmt.Sprintf("let the field be left out (omitempty), or raise SchemaVersion to %d and add Upcast from %d", f.Version+1, f.Version)
		}
	}
}

func (f *Finding) breaks(c Change, fix string) {
	f.State, f.Fix = Breaks, fix
	f.Changes = append(f.Changes, c)
}

// readExamples has the code read the stored examples of all versions.
func (f *Finding) readExamples(dir string, t courante.EventType, s *Schema) error {
	files, err := filepath.Glob(filepath.Join(dir, "examples", t.Name+".v*.json"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, name := range files {
		_, version, ok := cutName(filepath.Base(name))
		if !ok || version > t.Schema {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		broken := func(format string, args ...any) {
			f.breaks(Change{Breaks: Stored, Detail: fmt.Sprintf("the example of version %d: ", version) + fmt.Sprintf(format, args...)},
				fmt.Sprintf("make Upcast bring version %d up to %d", version, t.Schema))
		}
		up, err := t.Upcast(&courante.Event{Type: t.Name, Schema: version, Data: bytes.TrimSpace(data)})
		if err != nil {
			broken("%v", err)
			continue
		}
		var value any
		decoder := json.NewDecoder(bytes.NewReader(up))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			broken("%v", err)
			continue
		}
		if problem := s.misfit("", value); problem != "" {
			broken("%s", problem)
		}
	}
	return nil
}

// misfit says what of a value does not fit the schema, "" if all does.
func (s *Schema) misfit(path string, value any) string {
	at := path
	if at == "" {
		at = "the event"
	}
	kind := kindOf(value)
	if len(s.Type) > 0 && !slices.Contains(s.Type, kind) && (kind != "integer" || !slices.Contains(s.Type, "number")) {
		return fmt.Sprintf("%s is %s and should be %s", at, kind, s.describe())
	}
	switch v := value.(type) {
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil && s.Format == "date-time" {
			return fmt.Sprintf("%s is no time: %q", at, v)
		}
	case json.Number:
		if kind == "integer" && (!allows(s.Minimum, &v, least) || !allows(s.Maximum, &v, most)) {
			return fmt.Sprintf("%s is %s and should be %s", at, v, s.describe())
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, there := v[name]; !there {
				return fmt.Sprintf("%s lacks %s", at, name)
			}
		}
		for name, field := range v {
			if known := s.Properties[name]; known != nil {
				if problem := known.misfit(path+"/"+name, field); problem != "" {
					return problem
				}
			} else if s.AdditionalProperties != nil {
				if problem := s.AdditionalProperties.misfit(path+"/"+name, field); problem != "" {
					return problem
				}
			}
		}
	case []any:
		for i, item := range v {
			if s.Items != nil {
				if problem := s.Items.misfit(fmt.Sprintf("%s/%d", path, i), item); problem != "" {
					return problem
				}
			}
		}
	}
	return ""
}

var whole = regexp.MustCompile(`^-?[0-9]+$`)

func kindOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if whole.MatchString(v.String()) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// read returns the schemas in the folder, by type and version. A folder that is
// not there has none.
func read(dir string) (map[string]map[int]*Schema, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	written := map[string]map[int]*Schema{}
	for _, entry := range entries {
		event, version, ok := cutName(entry.Name())
		if !ok {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		s := new(Schema)
		if err := json.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		if written[event] == nil {
			written[event] = map[int]*Schema{}
		}
		written[event][version] = s
	}
	return written, nil
}

func fileName(event string, version int) string { return fmt.Sprintf("%s.v%d.json", event, version) }

var namePattern = regexp.MustCompile(`^(.+)\.v([1-9][0-9]*)\.json$`)

// cutName is the other way around than fileName.
func cutName(name string) (event string, version int, ok bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return "", 0, false
	}
	version, err := strconv.Atoi(m[2])
	return m[1], version, err == nil
}

func (s *Schema) encode() []byte {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // strings and maps of strings
	}
	return append(data, '\n')
}
