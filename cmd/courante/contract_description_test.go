//go:build linux || darwin

package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// operation is what the description says about one operation.
type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Parameters  []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct{ Content map[string]any }
	Responses   map[string]struct {
		Description string
		Headers     map[string]any
		Content     map[string]any
	}
}

func (c *contract) description() {
	a := c.do("GET", "/openapi.json", "")
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
	if err != nil {
		c.t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	var api struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]operation
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(a.body), &api); err != nil {
		c.t.Fatal(err)
	}
	if !strings.HasPrefix(api.OpenAPI, "3.1.") || api.Info.Title == "" || api.Info.Version == "" || len(api.Paths) == 0 {
		c.t.Errorf("/openapi.json is %s of %+v with %d paths, want 3.1 with a title, a version and paths", api.OpenAPI, api.Info, len(api.Paths))
	}
	c.checkReferences(a.body, document)
	// Each schema is one by itself, and what the program answers is of it.
	if err := compiler.AddResource("http://shop/openapi.json", document); err != nil {
		c.t.Fatal(err)
	}
	for name := range api.Components.Schemas {
		if _, err := compiler.Compile("http://shop/openapi.json#/components/schemas/" + name); err != nil {
			c.t.Errorf("schema %s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"Problem": c.do("GET", "/v1/orders/nobody", "").body,
		"Order":   c.do("GET", "/v1/orders/told", "").body,
		"Level":   c.do("GET", "/v1/inventory/told", "").body,
		"Placed":  c.order(orderOf("described")).body,
	} {
		of, err := compiler.Compile("http://shop/openapi.json#/components/schemas/" + name)
		if err != nil {
			continue // reported above
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			c.t.Fatal(err)
		}
		if err := of.Validate(v); err != nil {
			c.t.Errorf("%s is not as described: %v\n%s", name, err, text)
		}
	}

	page := c.do("GET", "/docs", "").body
	for _, other := range regexp.MustCompile(`href="(/docs/[a-z]+)"`).FindAllStringSubmatch(page, -1) {
		page += c.do("GET", other[1], "").body // a fleet has one for each service
	}
	ids := map[string]bool{}
	for path, methods := range api.Paths {
		for method, op := range methods {
			c.checkOperation(method, path, op)
			if ids[op.OperationID] || op.OperationID == "" {
				c.t.Errorf("%s %s: the operation's id is %q, want one of its own", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if !strings.Contains(page, `id="`+op.OperationID+`"`) || !strings.Contains(page, path) {
				c.t.Errorf("/docs does not show %s %s", method, path)
			}
		}
	}
	for _, foreign := range []string{"<script", "http://", "https://", "@import", "url("} {
		if strings.Contains(page, foreign) {
			c.t.Errorf("/docs contains %q: it must need nothing else", foreign)
		}
	}
	if !strings.Contains(page, `-d &#39;{&#34;currency&#34;:&#34;GBP&#34;`) {
		c.t.Errorf("/docs has no example of an order")
	}
}

// checkReferences finds references to what is not there.
func (c *contract) checkReferences(text string, document any) {
	for _, ref := range regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllStringSubmatch(text, -1) {
		at := document
		for _, name := range strings.Split(strings.TrimPrefix(ref[1], "#/"), "/") {
			object, _ := at.(map[string]any)
			at = object[name]
		}
		if at == nil {
			c.t.Errorf("reference to %s, which is not there", ref[1])
		}
	}
}

func (c *contract) checkOperation(method, path string, op operation) {
	has := func(in, name string) bool {
		for _, p := range op.Parameters {
			if p.In == in && p.Name == name {
				return true
			}
		}
		return false
	}
	what := strings.ToUpper(method) + " " + path
	for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		if !has("path", name[1]) {
			c.t.Errorf("%s: the parameter %s is not described", what, name[1])
		}
	}
	for _, p := range op.Parameters {
		if p.In == "path" && (!p.Required || !strings.Contains(path, "{"+p.Name+"}")) {
			c.t.Errorf("%s: the parameter %s is optional, or not in the path", what, p.Name)
		}
	}
	for status, answer := range op.Responses {
		if answer.Description == "" {
			c.t.Errorf("%s: status %s has no description", what, status)
		}
	}
	statuses := []string{"400", "422", "500", "503"}
	if method == "post" {
		statuses = append(statuses, "409")
		if !has("header", "Idempotency-Key") {
			c.t.Errorf("%s: Idempotency-Key is not described", what)
		}
	} else if !has("header", "Courante-Token") || !has("header", "Courante-Wait") {
		c.t.Errorf("%s: Courante-Token and Courante-Wait are not described", what)
	}
	if op.RequestBody != nil {
		statuses = append(statuses, "413", "415")
		if op.RequestBody.Content["application/json"] == nil {
			c.t.Errorf("%s: the body is not described as JSON", what)
		}
	}
	for _, status := range statuses {
		if op.Responses[status].Content["application/problem+json"] == nil {
			c.t.Errorf("%s: status %s is not described as a problem", what, status)
		}
	}
	if op.Responses["503"].Headers["Retry-After"] == nil {
		c.t.Errorf("%s: Retry-After is not described", what)
	}
	kind := "application/json"
	if strings.HasSuffix(path, "/events") {
		kind = "text/event-stream"
	}
	good := slices.DeleteFunc([]string{"200", "201", "202"}, func(status string) bool { return op.Responses[status].Content[kind] == nil })
	if len(good) == 0 || op.Summary == "" {
		c.t.Errorf("%s: no good answer or no summary is described", what)
	}
	for _, status := range good {
		if method == "post" && op.Responses[status].Headers["Courante-Token"] == nil {
			c.t.Errorf("%s: the Courante-Token of %s is not described", what, status)
		}
	}
}
