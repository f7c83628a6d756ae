//go:build linux || darwin

package main

import (
	"strings"
)

func (c *contract) unreadable() {
	good := orderOf("no")
	for _, tt := range []struct{ rule, body, pointer string }{
		{"no body", "", ""},
		{"white space", " \n", ""},
		{"cut off", good[:len(good)-1], ""},
		{"text", "order, please", ""},
		{"single quotes", with(`"GBP"`, `'GBP'`), "/currency"},
		{"a comment", "/* */" + good, ""},
		{"a byte order mark", "\ufeff" + good, ""},
		{"UTF-16", "\xff\xfe{\x00}\x00", ""},
		{"broken UTF-8", with("London", "Lond\xffn"), ""},
		{"two values", good + good, ""},
		{"garbage behind", good + "x", ""},
		{"NUL behind", good + "\x00", ""},
		{"a trailing comma", with(`"GBP",`, `"GBP",,`), ""},
		{"a comma behind the last line", with("}],", "},],"), "/lines"},
		{"a name twice", with(`"currency"`, `"currency":"GBP","currency"`), "/currency"},
		{"a name twice, escaped", with(`"sku"`, `"sku":"tea","\u0073ku"`), "/lines/0/sku"},
		{"an unknown name twice", with(`"sku"`, `"x":1,"x":2,"sku"`), "/lines/0/x"},
		{"a name twice deep in an unknown field", with(`"sku"`, `"x":{"y":[{"z":1,"z":1}]},"sku"`), "-"},
		{"NaN", with(`:5}`, `:NaN}`), "/lines/0/unit_price"},
		{"Infinity", with(`:5}`, `:-Infinity}`), "/lines/0/unit_price"},
		{"a leading zero", with(`:5}`, `:05}`), "/lines/0"},
		{"a plus sign", with(`:5}`, `:+5}`), "/lines/0/unit_price"},
		{"hexadecimal", with(`:5}`, `:0x5}`), "/lines/0"},
		{"no digit behind the point", with(`:5}`, `:5.}`), "/lines/0/unit_price"},
		{"half a surrogate pair", with("London", `Lond\ud83dn`), "/ship_to/city"},
		{"the halves the wrong way round", with("London", `\ude00\ud83d`), "/ship_to/city"},
		{"an escape that is none", with("London", `Lond\xn`), "/ship_to/city"},
		{"half an escape", with("London", `Lond\u12`), "/ship_to/city"},
		{"NUL", with("London", `Lond\u0000n`), "/ship_to/city"},
		{"a line end in a string", with("London", "Lon\ndon"), "/ship_to/city"},
		{"nested without end", strings.Repeat("[", 100_000), "-"},
		{"nested deep in an unknown field", with(`"sku"`, `"x":`+strings.Repeat(`{"a":`, 100)+strings.Repeat(`}`, 100)+`,"sku"`), "-"},
	} {
		c.want(tt.rule, c.order(tt.body), 400, tt.pointer)
	}
	for _, kind := range []string{"text/plain", "application/jsonx", "foo/bar+json", "json", "/", ";", "application/json; charset=latin1",
		"application/json, text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		c.want("type "+kind, c.order(good, "Content-Type", kind), 415, "")
	}
	c.want("a compressed body", c.order(good, "Content-Encoding", "gzip"), 415, "")
}

func (c *contract) senseless() {
	for _, tt := range []struct{ rule, body, pointer string }{
		{"null", "null", ""},
		{"an array", "[]", ""},
		{"a text", `"x"`, ""},
		{"an unknown field", with(`"currency"`, `"x":1,"currency"`), "/x"},
		{"an unknown field of a line", with(`"sku"`, `"x":{"y":[1]},"sku"`), "/lines/0/x"},
		{"an unknown field of the payment", with(`"method"`, `"x":1,"method"`), "/payment/x"},
		{"an unknown field of the address", with(`"country"`, `"x":1,"country"`), "/ship_to/x"},
		{"a name that must be escaped", with(`"currency"`, `"a/b~c.d[0]":1,"currency"`), "/a~1b~0c.d[0]"},
		{"an empty name", with(`"currency"`, `"":1,"currency"`), "/"},
		{"another case", with(`"currency"`, `"Currency":1,"currency"`), "/Currency"},
		{"no customer", with(`"customer_id":"17850",`, ""), "/customer_id"},
		{"no payment", with(`"payment":{"method":"card","token":"tok_ok"},`, ""), "/payment"},
		{"no quantity", with(`"quantity":1,`, ""), "/lines/0/quantity"},
		{"null for what is required", with(`"GBP"`, "null"), "/currency"},
		{"null for what is optional", with(`"London"`, "null"), "/ship_to/city"},
		{"null for an object", with(`{"method":"card","token":"tok_ok"}`, "null"), "/payment"},
		{"null for the lines", with(`[{"sku":"tea","quantity":1,"unit_price":5}]`, "null"), "/lines"},
		{"null for a line", with(`{"sku"`, `null,{"sku"`), "/lines/0"},
		{"text for a line", with(`{"sku"`, `"x",{"sku"`), "/lines/0"},
		{"an object for the lines", with(`[{"sku":"tea","quantity":1,"unit_price":5}]`, "{}"), "/lines"},
		{"an empty order id", with(`"no"`, `""`), "/order_id"},
		{"a number for an order id", with(`"no"`, `5`), "/order_id"},
		{"an order id of 65", with(`"no"`, `"`+strings.Repeat("o", 65)+`"`), "/order_id"},
		{"an order id that begins with a dot", with(`"no"`, `".o"`), "/order_id"},
		{"an order id with a line end", with(`"no"`, `"o\n"`), "/order_id"},
		{"a customer with a slash", with(`"17850"`, `"a/b"`), "/customer_id"},
		{"no currency", with("GBP", "XXX"), "/currency"},
		{"a metal", with("GBP", "XAU"), "/currency"},
		{"a currency in lower case", with("GBP", "gbp"), "/currency"},
		{"four letters of currency", with("GBP", "GBPX"), "/currency"},
		{"no country", with(`"GB"`, `"QQ"`), "/ship_to/country"},
		{"what is not the United Kingdom's code", with(`"GB"`, `"UK"`), "/ship_to/country"},
		{"a country in lower case", with(`"GB"`, `"gb"`), "/ship_to/country"},
		{"quantity 0", with(`:1,`, ":0,"), "/lines/0/quantity"},
		{"quantity -0.0", with(`:1,`, ":-0.0,"), "/lines/0/quantity"},
		{"a negative quantity", with(`:1,`, ":-1,"), "/lines/0/quantity"},
		{"a million and one", with(`:1,`, ":1000001,"), "/lines/0/quantity"},
		{"part of a piece", with(`:1,`, ":1.5,"), "/lines/0/quantity"},
		{"nearly one piece", with(`:1,`, ":1.00000000000000000001,"), "/lines/0/quantity"},
		{"a quantity beyond all", with(`:1,`, ":1e400,"), "/lines/0/quantity"},
		{"an exponent beyond all", with(`:1,`, ":1e99999999999999999999,"), "/lines/0/quantity"},
		{"an exponent below all", with(`:1,`, ":1e-99999999999999999999,"), "/lines/0/quantity"},
		{"a quantity of 2^63", with(`:1,`, ":9223372036854775808,"), "/lines/0/quantity"},
		{"a quantity as text", with(`:1,`, `:"1",`), "/lines/0/quantity"},
		{"a quantity that is true", with(`:1,`, `:true,`), "/lines/0/quantity"},
		{"a negative price", with(`:5}`, ":-1}"), "/lines/0/unit_price"},
		{"a price above 10^12", with(`:5}`, ":1000000000001}"), "/lines/0/unit_price"},
		{"an empty SKU", with(`"tea"`, `""`), "/lines/0/sku"},
		{"a SKU of 65 bytes in 17 letters", with(`"tea"`, `"`+strings.Repeat("🍵", 16)+`a"`), "/lines/0/sku"},
		{"a SKU with a tabulator", with(`"tea"`, `"t\tea"`), "/lines/0/sku"},
		{"a SKU with a control character of Unicode", with(`"tea"`, `"\u0085"`), "/lines/0/sku"},
		{"an unknown kind", with(`:5}`, `:5,"kind":"GOODS"}`), "/lines/0/kind"},
		{"an empty kind", with(`:5}`, `:5,"kind":""}`), "/lines/0/kind"},
		{"a bell in a description", with(`:5}`, `:5,"description":"\u0007"}`), "/lines/0/description"},
		{"no lines", with(`{"sku":"tea","quantity":1,"unit_price":5}`, ""), "/lines"},
		{"2,001 lines", orderOf("no", strings.Split(strings.Repeat(`{"sku":"tea","quantity":1,"unit_price":1};`, 2000)+`{"sku":"tea","quantity":1,"unit_price":1}`, ";")...), "/lines"},
		{"a total of 2^53", orderOf("no", `{"sku":"a","quantity":9007,"unit_price":1000000000000}`, `{"sku":"a","quantity":1,"unit_price":199254740992}`), "/lines"},
		{"a total that no integer holds", orderOf("no", strings.Split(strings.Repeat(`{"sku":"a","quantity":1000000,"unit_price":1000000000000};`, 1999)+`{"sku":"a","quantity":1,"unit_price":1}`, ";")...), "/lines"},
	} {
		c.want(tt.rule, c.order(tt.body), 422, tt.pointer)
	}
	many := c.order(`{"order_id":".","currency":"x","lines":[{"sku":"","quantity":0,"unit_price":-1,"y":1}],"z":1}`)
	for _, place := range []string{"/order_id", "/customer_id", "/currency", "/lines/0/sku", "/lines/0/quantity", "/lines/0/unit_price", "/lines/0/y", "/payment", "/ship_to", "/z"} {
		if n := strings.Count(many.body, `"pointer":"`+place+`"`); n != 1 {
			c.t.Errorf("a body with ten mistakes: %d errors at %s in %s", n, place, many.body)
		}
	}
}

func (c *contract) ids() {
	for _, path := range []string{"/v1/orders/.a", "/v1/orders/%2E", "/v1/orders/a%2Fb", "/v1/orders/a%00", "/v1/orders/a%0A", "/v1/orders/" + strings.Repeat("a", 65), "/v1/sagas/-", "/v1/orders/%C3%A4"} {
		c.want(path, c.do("GET", path, ""), 422, "")
	}
	for _, path := range []string{"/v1/orders/nobody", "/v1/orders/%6Eobody", "/v1/orders/" + strings.Repeat("a", 64), "/v1/orders/nobody?limit=1", "/v1/sagas/nobody", "/v1/inventory/nothing", "/v1/inventory/%2E%2E",
		"/", "/v1", "/v1/", "/V1/orders", "/v1/orders/", "/v1/orders//", "/v1//orders", "/v1/orders/..", "/v1/orders/./nobody", "/v1/sagas", "/v1/inventory", "/v1/inventory/", "/v1/inventory/a/b/c", "/nothing"} {
		c.want(path, c.do("GET", path, ""), 404, "")
	}
	for _, path := range []string{"/v1/inventory/../receipts", "/v1/inventory//receipts", "/v1/inventory/./receipts"} {
		c.want(path, c.do("POST", path, `{"quantity":1}`), 404, "")
	}
	for _, sku := range []string{"%01", "%7F", "%C2%85", "%FF", "%ED%A0%80", "a%00", strings.Repeat("%F0%9F%8D%B5", 16) + "a"} {
		c.want("SKU "+sku, c.do("GET", "/v1/inventory/"+sku, ""), 422, "")
		c.want("SKU "+sku, c.do("POST", "/v1/inventory/"+sku+"/receipts", `{"quantity":1}`), 422, "")
	}
	c.want("an escape that is none", c.raw("GET /v1/orders/%zz HTTP/1.1\r\nHost: shop\r\n\r\n"), 400, "")
	c.want("a header that is none", c.raw("GET /v1/orders/a HTTP/1.1\r\nHost: shop\r\nCourante-Token: a\x01b\r\n\r\n"), 400, "")
	c.want("no HTTP", c.raw("hello\r\n\r\n"), 400, "")
	c.want("headers without end", c.raw("GET / HTTP/1.1\r\nHost: shop\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n"), 431, "")
	c.want("an unknown transfer coding", c.raw("POST /v1/orders HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip\r\n\r\n"), 501, "")
}

func (c *contract) headers() {
	for _, tt := range []struct {
		name, value string
		status      int
	}{
		{"Idempotency-Key", "", 422},
		{"Idempotency-Key", "a b", 422},
		{"Idempotency-Key", "ä", 422},
		{"Idempotency-Key", "a\tb", 422},
		{"Idempotency-Key", strings.Repeat("k", 256), 422},
		{"Idempotency-Key", "one|two", 400},
	} {
		c.want(tt.name+" "+tt.value, c.order(orderOf("no"), tt.name, tt.value), tt.status, "")
	}
	for _, tt := range []struct {
		name, value string
		status      int
	}{
		{"Courante-Token", "nonsense", 400},
		{"Courante-Token", "====", 400},
		{"Courante-Token", strings.Repeat("A", 5000), 400},
		{"Courante-Token", "|", 400},
		{"Courante-Wait", "30001", 422},
		{"Courante-Wait", "-1", 422},
		{"Courante-Wait", "soon", 422},
		{"Courante-Wait", "1.5", 422},
		{"Courante-Wait", "1e3", 422},
		{"Courante-Wait", "99999999999999999999", 422},
		{"Courante-Wait", "1|2", 400},
		{"Courante-Wait", "0", 404},
		{"Courante-Wait", "30000", 404},
	} {
		for _, path := range []string{"/v1/orders/nobody", "/v1/inventory/nothing", "/v1/sagas/nobody"} {
			c.want(path+" "+tt.name+" "+tt.value, c.do("GET", path, "", tt.name, tt.value), tt.status, "")
		}
	}
}

func (c *contract) methods() {
	for path, allowed := range map[string]string{
		"/v1/orders/nobody": "GET, HEAD", "/v1/orders/nobody/cancel": "POST", "/v1/inventory/tea": "GET, HEAD",
		"/v1/inventory/tea/receipts": "POST", "/v1/inventory/tea/adjustments": "POST", "/v1/sagas/nobody": "GET, HEAD",
		"/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/openapi.json": "GET, HEAD", "/docs": "GET, HEAD", "/metrics": "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "DANCE"} {
			if strings.Contains(allowed, method) {
				continue
			}
			a := c.do(method, path, "")
			if a.status != 405 || a.header.Get("Allow") != allowed {
				c.t.Errorf("%s %s: got %d, Allow %q; want 405, Allow %q", method, path, a.status, a.header.Get("Allow"), allowed)
			}
		}
	}
	if a := c.do("HEAD", "/v1/orders/nobody", ""); a.status != 404 || a.body != "" {
		c.t.Errorf("HEAD: got %d %q, want 404 without a body", a.status, a.body)
	}
}
