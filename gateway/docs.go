package gateway

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// The page that shows the API's description to people. It is ours, and needs
// neither scripts nor other hosts: the usual viewers are megabytes of script
// from a content network, which a closed network does not reach and a careful
// one does not trust.
var (
	//go:embed docs.html
	docsText string
	docsPage = template.Must(template.New("docs").Parse(docsText))
)

const docsPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docs serves the page. It is made at the first request, when all operations
// are declared.
func docs(api *huma.OpenAPI) http.HandlerFunc {
	page := sync.OnceValues(func() ([]byte, error) {
		var b bytes.Buffer
		err := docsPage.Execute(&b, docsOf(api))
		return b.Bytes(), err
	})
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := page()
		if err != nil {
			note(r.Context(), http.StatusInternalServerError, []error{err})
			newProblem(http.StatusInternalServerError, "something went wrong on our side").write(w)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", docsPolicy)
		_, _ = w.Write(text) // the caller is gone if it fails
	}
}

// docsView is what the page shows.
type docsView struct {
	Title, Version string
	Groups         []docsGroup
}

type docsGroup struct {
	Name       string
	Operations []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary, Description string
	Parameters                             []docsField
	Body                                   []docsField
	BodyOptional                           bool
	Answers                                []docsAnswer
	Curl                                   string
}

type docsField struct {
	Name, In, Type, Limits, Text string
	Required                     bool
}

type docsAnswer struct {
	Status, Text, Headers string
	Fields                []docsField
}

func docsOf(api *huma.OpenAPI) docsView {
	v := docsView{Title: api.Info.Title, Version: api.Info.Version}
	for _, path := range sorted(api.Paths) {
		item := api.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			tag := "other"
			if len(op.Tags) > 0 {
				tag = op.Tags[0]
			}
			i := slices.IndexFunc(v.Groups, func(g docsGroup) bool { return g.Name == tag })
			if i < 0 {
				i = len(v.Groups)
				v.Groups = append(v.Groups, docsGroup{Name: tag})
			}
			v.Groups[i].Operations = append(v.Groups[i].Operations, docsOperationOf(api, op))
		}
	}
	return v
}

func docsOperationOf(api *huma.OpenAPI, op *huma.Operation) docsOperation {
	d := docsOperation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description}
	registry := api.Components.Schemas
	path := op.Path
	for _, p := range op.Parameters {
		d.Parameters = append(d.Parameters, docsField{
			Name: p.Name, In: p.In, Type: typeOf(p.Schema), Limits: limitsOf(p.Schema), Text: p.Description, Required: p.Required,
		})
		if p.In == "path" {
			path = strings.Replace(path, "{"+p.Name+"}", fmt.Sprint(example(registry, p.Schema)), 1)
		}
	}
	d.Curl = "curl -s localhost:8080" + path
	if op.RequestBody != nil && op.RequestBody.Content[jsonType] != nil {
		schema := op.RequestBody.Content[jsonType].Schema
		d.Body = fieldsOf(registry, schema, "")
		d.BodyOptional = !op.RequestBody.Required
		text, err := json.Marshal(example(registry, schema))
		if err == nil { // values of JSON only
			d.Curl += " -H 'Content-Type: application/json' \\\n  -d '" + string(text) + "'"
		}
	} else if op.Method != http.MethodGet {
		d.Curl += " -X " + op.Method
	}
	for _, status := range sorted(op.Responses) {
		r := op.Responses[status]
		a := docsAnswer{Status: status, Text: r.Description, Headers: strings.Join(sorted(r.Headers), ", ")}
		if media := r.Content[jsonType]; media != nil {
			a.Fields = fieldsOf(registry, media.Schema, "")
		}
		d.Answers = append(d.Answers, a)
	}
	return d
}

// fieldsOf lists the fields of an object with those inside, as "lines[].sku".
func fieldsOf(registry huma.Registry, s *huma.Schema, prefix string) []docsField {
	s = resolved(registry, s)
	if s.Items != nil {
		return fieldsOf(registry, s.Items, prefix+"[]")
	}
	var list []docsField
	for _, name := range namesOf(s) {
		of := resolved(registry, s.Properties[name])
		full := strings.TrimPrefix(prefix+"."+name, ".")
		list = append(list, docsField{
			Name: full, Type: typeOf(of), Limits: limitsOf(of), Text: of.Description, Required: slices.Contains(s.Required, name),
		})
		list = append(list, fieldsOf(registry, of, full)...)
	}
	return list
}

// namesOf are the names of the properties: those required in the order of their
// declaration, then the others.
func namesOf(s *huma.Schema) []string {
	names := slices.Clone(s.Required)
	for _, name := range sorted(s.Properties) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func resolved(registry huma.Registry, s *huma.Schema) *huma.Schema {
	if s.Ref != "" {
		return registry.SchemaFromRef(s.Ref)
	}
	return s
}

func typeOf(s *huma.Schema) string {
	switch {
	case s.Format == "date-time":
		return "time (RFC 3339)"
	case s.Items != nil:
		return "list"
	}
	return s.Type
}

func limitsOf(s *huma.Schema) string {
	var list []string
	if len(s.Enum) > 0 {
		var words []string
		for _, word := range s.Enum {
			words = append(words, fmt.Sprint(word))
		}
		list = append(list, strings.Join(words, ", "))
	}
	if s.Minimum != nil && s.Maximum != nil {
		list = append(list, strconv.FormatFloat(*s.Minimum, 'f', -1, 64)+" to "+strconv.FormatFloat(*s.Maximum, 'f', -1, 64))
	}
	between := func(least, most *int, of string) {
		switch {
		case most != nil && least != nil && *least == *most:
			list = append(list, fmt.Sprintf("%d %s", *most, of))
		case most != nil && least != nil:
			list = append(list, fmt.Sprintf("%d to %d %s", *least, *most, of))
		case most != nil:
			list = append(list, fmt.Sprintf("at most %d %s", *most, of))
		case least != nil:
			list = append(list, fmt.Sprintf("at least %d %s", *least, of))
		}
	}
	between(s.MinLength, s.MaxLength, "characters")
	between(s.MinItems, s.MaxItems, "items")
	switch {
	case s.PatternDescription != "":
		list = append(list, s.PatternDescription)
	case s.Pattern != "":
		list = append(list, s.Pattern)
	}
	if s.Default != nil {
		list = append(list, fmt.Sprintf("default %v", s.Default))
	}
	return strings.Join(list, "; ")
}

// example makes a value that the schema allows, of what is required and of what
// has an example.
func example(registry huma.Registry, s *huma.Schema) any {
	s = resolved(registry, s)
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Items != nil:
		return []any{example(registry, s.Items)}
	case s.Type == huma.TypeObject:
		object := map[string]any{}
		for name, of := range s.Properties {
			if slices.Contains(s.Required, name) || len(of.Examples) > 0 {
				object[name] = example(registry, of)
			}
		}
		return object
	case s.Type == huma.TypeString:
		return "text"
	case s.Minimum != nil:
		return *s.Minimum
	}
	return 1
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
