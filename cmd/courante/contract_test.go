//go:build linux || darwin

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/courante-dev/courante/courantetest"
)

// TestContract holds the program to what it promises over HTTP, from outside:
// one system for all sections, which run in this order. The first section
// writes nothing, which the empty logs after it show. A fleet behind its gateway
// promises the same as one process.
func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("one process", func(t *testing.T) {
		t.Parallel()
		testContract(t, up(t, dataDir(t)))
	})
	t.Run("a fleet", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("starts a fleet")
		}
		testContract(t, fleet(t, courantetest.RabbitMQHost(t)))
	})
}

func testContract(t *testing.T, p *process) {
	c := &contract{process: p}
	section := func(name string, test func(c *contract)) {
		t.Run(name, func(t *testing.T) {
			mine := *c
			mine.t = t
			test(&mine)
		})
	}
	section("bodies that cannot be read", (*contract).unreadable)
	section("orders that make no sense", (*contract).senseless)
	section("ids and paths", (*contract).ids)
	section("headers", (*contract).headers)
	section("methods", (*contract).methods)
	section("a refusal writes nothing", func(c *contract) {
		if out, _, _ := c.run("events", "tail", "--from", "start", "--no-follow", "--json"); out != "" {
			c.t.Errorf("after refusals only, the logs hold\n%s", out)
		}
	})
	section("sizes", (*contract).sizes)
	section("spellings", (*contract).spellings)
	section("limits of orders", (*contract).limits)
	section("idempotency keys", (*contract).idempotency)
	section("the same order again", (*contract).again)
	section("tokens", (*contract).tokens)
	section("cancellation", (*contract).cancellation)
	section("inventory", (*contract).inventory)
	section("the description", (*contract).description)
	if t.Failed() {
		t.Log(p.said())
	}
}

// contract is a caller who knows nothing but the address.
type contract struct {
	*process
	t *testing.T
}

type answer struct {
	status int
	header http.Header
	body   string
}

// field reads a field of the answer's object.
func (a answer) field(name string) any {
	var v map[string]any
	_ = json.Unmarshal([]byte(a.body), &v) // then there is none
	return v[name]
}

// do sends a request. Whatever is refused must be refused in the one form that
// the contract knows. headers are names and values; an empty Content-Type
// sends none.
func (c *contract) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.ready.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if req.Header.Del(headers[i]); headers[i+1] != "" || headers[i] != "Content-Type" {
			req.Header[http.CanonicalHeaderKey(headers[i])] = strings.Split(headers[i+1], "|")
		}
	}
	return c.send(req)
}

// direct is a client that follows no redirects.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (c *contract) send(req *http.Request) answer {
	c.t.Helper()
	res, err := direct.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	a := answer{res.StatusCode, res.Header, string(body)}
	if a.status >= 300 && req.Method != http.MethodHead {
		c.checkProblem(req.Method+" "+req.URL.Path, a)
	}
	return a
}

// insides are words that only somebody inside knows.
var insides = regexp.MustCompile(`(?i:pgx|sql|select |goroutine|\.go:|reflect|huma|gateway|\bint64\b|struct|courante\.)|json:`)

func (c *contract) checkProblem(what string, a answer) {
	c.t.Helper()
	var p struct {
		Title, Detail *string
		Status        *int
		Errors        []struct{ Pointer, Detail *string }
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	switch {
	case err != nil || a.header.Get("Content-Type") != "application/problem+json":
		c.t.Errorf("%s: got %d %s %.300s (%v), want a problem", what, a.status, a.header.Get("Content-Type"), a.body, err)
		return
	case p.Title == nil || p.Detail == nil || *p.Detail == "" || p.Status == nil || *p.Status != a.status || len(p.Errors) == 0:
		c.t.Errorf("%s: got %d %.300s, want title, status, detail and errors", what, a.status, a.body)
	}
	places := map[string]bool{}
	for _, f := range p.Errors {
		if f.Pointer == nil || f.Detail == nil || *f.Detail == "" || *f.Pointer != "" && places[*f.Pointer] {
			c.t.Errorf("%s: an error says nothing, or a place is named twice: %.300s", what, a.body)
			return
		}
		places[*f.Pointer] = true
	}
	if word := insides.FindString(a.body); word != "" {
		c.t.Errorf("%s: the answer tells of the inside (%q): %.300s", what, word, a.body)
	}
	if retry := a.header.Get("Retry-After") != ""; retry != (a.status == 429 || a.status == 503) {
		c.t.Errorf("%s: status %d with Retry-After %q", what, a.status, a.header.Get("Retry-After"))
	}
}

// want checks a status, and that an error is at the pointer; "-" for anywhere.
func (c *contract) want(rule string, a answer, status int, pointer string) {
	c.t.Helper()
	if a.status != status {
		c.t.Errorf("%s: got %d %.300s, want %d", rule, a.status, a.body, status)
		return
	}
	if pointer == "-" {
		return
	}
	var p struct{ Errors []struct{ Pointer string } }
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		c.t.Errorf("%s: %v", rule, err)
	}
	if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
		c.t.Errorf("%s: got %.300s, want one error, at %q", rule, a.body, pointer)
	}
}

func (c *contract) order(body string, headers ...string) answer {
	c.t.Helper()
	return c.do("POST", "/v1/orders", body, headers...)
}

// orderOf is an order of lines, compact, so that parts of it can be replaced.
func orderOf(id string, lines ...string) string {
	if len(lines) == 0 {
		lines = []string{`{"sku":"tea","quantity":1,"unit_price":5}`}
	}
	return `{"order_id":"` + id + `","customer_id":"17850","currency":"GBP","lines":[` + strings.Join(lines, ",") +
		`],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB","city":"London"}}`
}

// with replaces the first old in an order, which must be there.
func with(old, now string) string {
	text := orderOf("no")
	if !strings.Contains(text, old) {
		panic(fmt.Sprintf("the order has no %s", old))
	}
	return strings.Replace(text, old, now, 1)
}

// filled is an order padded with white space to n bytes.
func filled(id string, n int) string {
	text := orderOf(id)
	return text + string(bytes.Repeat([]byte(" "), n-len(text)))
}
