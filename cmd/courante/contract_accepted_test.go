//go:build linux || darwin

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante"
)

// raw sends bytes on a connection of their own and reads one answer.
func (c *contract) raw(text string) answer {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.ready.URL, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, text) }() // the answer may come before the end
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.t.Fatalf("%.60q: %v", text, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%.60q: %v", text, err)
	}
	a := answer{res.StatusCode, res.Header, string(body)}
	if a.status >= 300 {
		c.checkProblem(fmt.Sprintf("%.60q", text), a)
	}
	return a
}

func (c *contract) sizes() {
	const most = 1 << 20
	c.want("1 MiB", c.order(filled("size-1", most)), 201, "-")
	c.want("1 MiB and a byte", c.order(filled("no", most+1)), 413, "")
	c.want("10 MiB", c.order(filled("no", 10*most)), 413, "")
	chunked := func(body string) answer {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.ready.URL+"/v1/orders", io.MultiReader(strings.NewReader(body)))
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		return c.send(req)
	}
	c.want("1 MiB without a length", chunked(filled("size-2", most)), 201, "-")
	c.want("1 MiB and a byte without a length", chunked(filled("no", most+1)), 413, "")
	// A client that reads the answer only when it has sent everything gets it.
	c.want("4 MiB, sent first", c.sentFirst(filled("no", 4*most)), 413, "")
	c.want("4 MiB of another type, sent first", c.sentFirst(filled("no", 4*most), "Content-Type: text/plain"), 415, "")
}

// sentFirst sends a whole request before it reads.
func (c *contract) sentFirst(body string, headers ...string) answer {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.ready.URL, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	headers = append(headers, "Content-Type: application/json", "Host: shop", fmt.Sprintf("Content-Length: %d", len(body)))
	if len(headers) > 3 {
		headers = append(headers[:1], headers[2:]...)
	}
	if _, err := fmt.Fprintf(conn, "POST /v1/orders HTTP/1.1\r\n%s\r\n\r\n%s", strings.Join(headers, "\r\n"), body); err != nil {
		c.t.Errorf("the connection was cut while the body was sent: %v", err)
		return answer{}
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

func (c *contract) spellings() {
	for i, kind := range []string{"", "application/json", "APPLICATION/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8", "application/json ; charset=\"utf-8\""} {
		c.want("type "+kind, c.order(orderOf(fmt.Sprintf("type-%d", i)), "Content-Type", kind), 201, "-")
	}
	for i, one := range []string{"1.0", "1e0", "10e-1", "0.1E+1", "1000000000000000000000e-21", "1.00000000000000000000000"} {
		a := c.order(strings.Replace(orderOf(fmt.Sprintf("one-%d", i)), ":1,", ":"+one+",", 1))
		c.want(one+" pieces", a, 201, "-")
		if !strings.Contains(a.body, `"amount":5,`) {
			c.t.Errorf("%s pieces cost %s, want 5", one, a.body)
		}
	}
	for i, price := range []string{"1e3", "1000.0", "1E+3"} {
		a := c.order(strings.Replace(orderOf(fmt.Sprintf("price-%d", i)), ":5}", ":"+price+"}", 1))
		if !strings.Contains(a.body, `"amount":1000,`) {
			c.t.Errorf("a price of %s: %s, want 1000", price, a.body)
		}
	}
	c.want("an escaped name", c.order(strings.Replace(orderOf("escaped"), `"sku"`, `"\u0073ku"`, 1)), 201, "-")
	c.want("an emoji as a surrogate pair", c.order(strings.Replace(orderOf("emoji"), `"tea"`, `"\ud83c\udf75"`, 1)), 201, "-")
}

func (c *contract) limits() {
	for _, id := range []string{"a", "0", strings.Repeat("x", 64), "a.", "A:b-_.c"} {
		a := c.order(orderOf(id))
		if a.status != 201 || a.header.Get("Location") != "/v1/orders/"+id {
			c.t.Errorf("order id %s: got %d %s, Location %q", id, a.status, a.body, a.header.Get("Location"))
		}
		c.want("the order "+id, c.do("GET", a.header.Get("Location"), "", "Courante-Token", a.header.Get("Courante-Token")), 200, "-")
	}
	line := func(sku string, quantity, price int64) string {
		return fmt.Sprintf(`{"sku":%q,"quantity":%d,"unit_price":%d}`, sku, quantity, price)
	}
	lines := make([]string, 2000)
	for i := range lines {
		lines[i] = line(fmt.Sprint("s", i), 1, 1)
	}
	for name, ls := range map[string][]string{
		"2,000 lines":       lines,
		"a total of 2^53-1": {line("a", 9007, 1e12), line("a", 1, 199254740991)},
		"a total of 0":      {line("a", 1, 0)},
		"a million":         {line("a", 1e6, 1)},
		"a price of 10^12":  {line("a", 1, 1e12)},
		"odd SKUs":          {line("a/b", 1, 1), line("..", 1, 1), line(" ", 1, 1), line("?%2F", 1, 1), line(strings.Repeat("🍵", 16), 1, 1)},
		"kinds":             {`{"sku":"a","quantity":1,"unit_price":1,"kind":"goods"}`, `{"sku":"POST","quantity":1,"unit_price":1,"kind":"charge"}`},
	} {
		c.want(name, c.order(orderOf(strings.NewReplacer(" ", "-", ",", "", "^", "").Replace(name), ls...)), 201, "-")
	}
	for _, country := range []string{"ZZ", "XS", "DE"} {
		c.want(country, c.order(strings.Replace(orderOf("to-"+country), `"GB"`, `"`+country+`"`, 1)), 201, "-")
	}
	a := c.order(strings.Replace(orderOf("x"), `"order_id":"x",`, "", 1))
	if id, _ := a.field("order_id").(string); a.status != 201 || len(id) == 0 || len(id) > 64 {
		c.t.Errorf("an order without an id: %d %s", a.status, a.body)
	}
	if a.field("token") != a.header.Get("Courante-Token") || a.field("status") != "created" || a.field("version") != 1.0 {
		c.t.Errorf("got %s with Courante-Token %q", a.body, a.header.Get("Courante-Token"))
	}
}

func (c *contract) idempotency() {
	same := func(rule string, first, again answer) {
		c.t.Helper()
		if again.status != first.status || again.body != first.body || again.header.Get("Courante-Token") != first.header.Get("Courante-Token") {
			c.t.Errorf("%s: got %d %s, want the first answer, %d %s", rule, again.status, again.body, first.status, first.body)
		}
	}
	const anonymous = `{"customer_id":"1","currency":"GBP","lines":[{"sku":"tea","quantity":1,"unit_price":5}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}`
	first := c.order(anonymous, "Idempotency-Key", "k1")
	c.want("a key", first, 201, "-")
	for rule, body := range map[string]string{
		"the same body":   anonymous,
		"another order":   `{"ship_to":{"country":"GB"},"payment":{"token":"tok_ok","method":"card"},"lines":[{"unit_price":5,"sku":"tea","quantity":1}],"currency":"GBP","customer_id":"1"}`,
		"white space":     strings.ReplaceAll(anonymous, ",", "\n\t, "),
		"a number":        strings.Replace(anonymous, ":5,", ":0.5e1,", 1),
		"an escaped text": strings.Replace(anonymous, "GBP", `\u0047BP`, 1),
	} {
		same(rule, first, c.order(body, "Idempotency-Key", "k1"))
	}
	c.want("another body", c.order(strings.Replace(anonymous, ":5}", ":6}", 1), "Idempotency-Key", "k1"), 422, "")
	c.want("a body that makes no sense", c.order(strings.Replace(anonymous, "GBP", "XXX", 1), "Idempotency-Key", "k1"), 422, "/currency")

	receipt := c.do("POST", "/v1/inventory/keyed/receipts", `{"quantity":2}`, "Idempotency-Key", "k1")
	c.want("the key on another path", receipt, 201, "-")
	same("the path written otherwise", receipt, c.do("POST", "/v1/inventory/%6Beyed/receipts", `{"quantity":2.0}`, "Idempotency-Key", "k1"))
	c.want("the key on a third path", c.do("POST", "/v1/inventory/Keyed/receipts", `{"quantity":2}`, "Idempotency-Key", "k1"), 201, "-")
	c.want("the key on a fourth path", c.do("POST", "/v1/inventory/keyed/adjustments", `{"quantity":-1,"reason":"broken"}`, "Idempotency-Key", "k1"), 201, "-")

	c.want("a mistake", c.order(strings.Replace(orderOf("late"), "GBP", "XXX", 1), "Idempotency-Key", "k2"), 422, "/currency")
	late := c.order(orderOf("late"), "Idempotency-Key", "k2")
	c.want("the mistake mended", late, 201, "-")
	c.want("a conflict", c.order(strings.Replace(orderOf("late"), ":5}", ":6}", 1), "Idempotency-Key", "k3"), 409, "")
	c.want("the conflict mended", c.order(orderOf("later"), "Idempotency-Key", "k3"), 201, "-")
	for _, key := range []string{"';--", `"q"`, "a,b", "%00", strings.Repeat("k", 255)} {
		c.want("key "+key, c.do("POST", "/v1/inventory/keys/receipts", `{"quantity":1}`, "Idempotency-Key", key), 201, "-")
	}

	answers := make([]answer, 16)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i] = c.do("POST", "/v1/inventory/atonce/receipts", `{"quantity":7}`, "Idempotency-Key", "at-once")
		})
	}
	all.Wait()
	for _, a := range answers[1:] {
		same("at once", answers[0], a)
	}
	if level := c.do("GET", "/v1/inventory/atonce", ""); level.field("on_hand") != 7.0 {
		c.t.Errorf("one receipt sent 16 times with one key: %s, want 7 on hand", level.body)
	}
}

func (c *contract) again() {
	first := c.order(orderOf("again"))
	c.becomes("again", "cancelled") // there is no tea
	for rule, headers := range map[string][]string{"no key": nil, "a key": {"Idempotency-Key", "again-1"}, "another key": {"Idempotency-Key", "again-2"}} {
		if a := c.order(orderOf("again"), headers...); a.status != 201 || a.body != first.body || a.header.Get("Location") != "/v1/orders/again" {
			c.t.Errorf("%s: got %d %s, want 201 %s", rule, a.status, a.body, first.body)
		}
	}
	c.want("another body", c.order(strings.Replace(orderOf("again"), ":5}", ":6}", 1)), 409, "")
}

func (c *contract) tokens() {
	order := c.order(orderOf("told"))
	receipt := c.do("POST", "/v1/inventory/told/receipts", `{"quantity":1}`)
	var tokens []courante.Token
	for _, a := range []answer{order, receipt} {
		token, err := courante.ParseToken(a.header.Get("Courante-Token"))
		if err != nil || a.field("token") != token.String() {
			c.t.Fatalf("token %q in the header, %v in the body: %v", token, a.field("token"), err)
		}
		tokens = append(tokens, token)
	}
	for _, path := range []string{"/v1/orders/told", "/v1/inventory/told", "/v1/sagas/told"} {
		for _, token := range tokens {
			a := c.do("GET", path, "", "Courante-Token", token.String(), "Courante-Wait", "20000")
			c.want(path+" with a token of "+token.Log, a, 200, "-")
			c.want(path+" with a token that was cut", c.do("GET", path, "", "Courante-Token", token.String()[1:]), 400, "")
			lost := token
			lost.Epoch++
			c.want(path+" with a token of another epoch of "+token.Log, c.do("GET", path, "", "Courante-Token", lost.String()), 409, "")
		}
	}
	for path, token := range map[string]courante.Token{"/v1/orders/unborn": tokens[0], "/v1/sagas/unborn": tokens[0], "/v1/inventory/unborn": tokens[1]} {
		c.want(path+" with a token that does not promise it", c.do("GET", path, "", "Courante-Token", token.String(), "Courante-Wait", "20000"), 404, "")
		token.Xid += 1 << 40
		start := time.Now()
		c.want(path+" that is promised and not there yet", c.do("GET", path, "", "Courante-Token", token.String(), "Courante-Wait", "300"), 409, "")
		if waited := time.Since(start); waited < 300*time.Millisecond {
			c.t.Errorf("%s: it waited %s, want 300 ms", path, waited)
		}
	}
	future := tokens[1]
	future.Xid += 1 << 40
	c.want("an order with a token of stock that is not there yet", c.do("GET", "/v1/orders/told", "", "Courante-Token", future.String(), "Courante-Wait", "0"), 409, "")
}

func (c *contract) cancellation() {
	c.do("POST", "/v1/inventory/tea/receipts", `{"quantity":100}`)
	slow := func(id string) string {
		c.want("place "+id, c.order(strings.Replace(orderOf(id), "tok_ok", "tok_slow", 1)), 201, "-")
		return "/v1/orders/" + id + "/cancel"
	}
	first := c.do("POST", slow("stop-1"), "")
	c.want("without a body", first, 202, "-")
	if first.field("token") != first.header.Get("Courante-Token") || first.field("order_id") != "stop-1" {
		c.t.Errorf("got %s with Courante-Token %q", first.body, first.header.Get("Courante-Token"))
	}
	c.want("again", c.do("POST", "/v1/orders/stop-1/cancel", "{}"), 200, "-")
	c.want("with an empty object", c.do("POST", slow("stop-2"), "{}"), 202, "-")
	reasoned := c.do("POST", slow("stop-3"), `{"reason":"changed my mind"}`)
	c.want("with a reason", reasoned, 202, "-")
	if a := c.do("GET", "/v1/orders/stop-3", "", "Courante-Token", reasoned.header.Get("Courante-Token")); a.field("cancel_reason") != "changed my mind" {
		c.t.Errorf("got %s, want the reason", a.body)
	}
	c.want("with a type and no body", c.do("POST", slow("stop-4"), "", "Content-Type", "text/plain"), 202, "-")
	keyed := slow("stop-5")
	for range 2 {
		c.want("with a key", c.do("POST", keyed, "", "Idempotency-Key", "stop"), 202, "-")
	}
	c.want("with a key and another body", c.do("POST", keyed, `{"reason":"x"}`, "Idempotency-Key", "stop"), 422, "")
	path := slow("stop-6")
	for _, tt := range []struct {
		body    string
		status  int
		pointer string
	}{
		{"null", 422, ""}, {"[]", 422, ""}, {"{", 400, ""}, {`{"reason":5}`, 422, "/reason"}, {`{"reason":null}`, 422, "/reason"}, {`{"why":"so"}`, 422, "/why"},
		{`{"reason":"\u0007"}`, 422, "/reason"}, {`{"reason":"` + strings.Repeat("r", 501) + `"}`, 422, "/reason"},
	} {
		c.want(tt.body, c.do("POST", path, tt.body), tt.status, tt.pointer)
	}
	if a := c.do("GET", "/v1/orders/stop-6", ""); strings.HasPrefix(fmt.Sprint(a.field("status")), "cancel") {
		c.t.Errorf("refused cancellations have cancelled: %s", a.body)
	}
	c.want("an order that is not there", c.do("POST", "/v1/orders/nobody/cancel", ""), 404, "")
	c.order(orderOf("gone"))
	c.becomes("gone", "confirmed")
	c.want("after shipping", c.do("POST", "/v1/orders/gone/cancel", ""), 409, "")
	c.becomes("stop-1", "cancelled")
	c.want("after the end", c.do("POST", "/v1/orders/stop-1/cancel", ""), 200, "-")
}

func (c *contract) inventory() {
	for _, sku := range []string{"x/y", "%2E%2E", "%3F", "%20", "a+b", "%252F", "Tee", "tee", "%E2%80%A8", strings.Repeat("%F0%9F%8D%B5", 16), "receipts"} {
		path := "/v1/inventory/" + strings.ReplaceAll(sku, "/", "%2F")
		a := c.do("POST", path+"/receipts", `{"quantity":5}`)
		c.want("receipt of "+sku, a, 201, "-")
		if a.field("on_hand") != 5.0 || a.field("token") != a.header.Get("Courante-Token") {
			c.t.Errorf("receipt of %s: %s with Courante-Token %q", sku, a.body, a.header.Get("Courante-Token"))
		}
		if level := c.do("GET", path, ""); level.status != 200 || level.field("sku") != a.field("sku") || level.field("available") != 5.0 {
			c.t.Errorf("level of %s: %d %s", sku, level.status, level.body)
		}
	}
	for _, tt := range []struct {
		change, body string
		status       int
		pointer      string
	}{
		{"nothing/adjustments", `{"quantity":1,"reason":"count"}`, 404, ""},
		{"pot/receipts", `{"quantity":0}`, 422, "/quantity"},
		{"pot/receipts", `{"quantity":-1}`, 422, "/quantity"},
		{"pot/receipts", `{"quantity":1000000001}`, 422, "/quantity"},
		{"pot/receipts", `{}`, 422, "/quantity"},
		{"pot/receipts", ``, 400, ""},
		{"pot/receipts", `{"quantity":1,"reason":"x"}`, 422, "/reason"},
		{"pot/receipts", `{"quantity":1000000000}`, 201, "-"},
		{"pot/adjustments", `{"quantity":0,"reason":"count"}`, 422, "/quantity"},
		{"pot/adjustments", `{"quantity":-1}`, 422, "/reason"},
		{"pot/adjustments", `{"quantity":-1,"reason":""}`, 422, "/reason"},
		{"pot/adjustments", `{"quantity":-1000000001,"reason":"count"}`, 422, "/quantity"},
		{"pot/adjustments", `{"quantity":-999999999,"reason":"count"}`, 201, "-"},
		{"pot/adjustments", `{"quantity":-2,"reason":"count"}`, 409, ""},
		{"pot/adjustments", `{"quantity":-1e0,"reason":"count"}`, 201, "-"},
	} {
		c.want(tt.change+" "+tt.body, c.do("POST", "/v1/inventory/"+tt.change, tt.body), tt.status, tt.pointer)
	}
	if level := c.do("GET", "/v1/inventory/pot", ""); level.body != `{"sku":"pot","on_hand":0,"reserved":0,"available":0}`+"\n" {
		c.t.Errorf("got %s, want none left", level.body)
	}
}
