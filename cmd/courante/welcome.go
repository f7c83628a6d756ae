package main

import (
	"fmt"
	"strconv"
	"strings"
)

// welcome says where the system is and what to try: commands to copy, that
// work one after the other.
func (s *system) welcome() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nCourante is ready: %s\n", s.url())
	fmt.Fprintf(&b, "Data is in %s; mails are in %s/mail\n", s.dir, s.dir)
	fmt.Fprintf(&b, `
Try, in another terminal:

  # put tea on the shelf, and order some
  curl -s %[1]s/v1/inventory/tea/receipts -H 'Content-Type: application/json' -d '{"quantity": 100}'
  curl -s %[1]s/v1/orders -H 'Content-Type: application/json' -d '{"order_id": "first", "customer_id": "me", "currency": "GBP",
    "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}],
    "payment": {"method": "card", "token": "tok_ok"}, "ship_to": {"country": "GB"}}'

  # see how it went, and who did what
  curl -s %[1]s/v1/orders/first
  courante saga show first%[2]s

  # the same with a card that is declined: "order_id": "second", "token": "tok_declined"

`, s.url(), s.dataFlag())
	more := newTable("  courante events tail --from start"+s.dataFlag(), "# every event, as it happens")
	more.row("  courante routes", "# who listens to what")
	more.row("  "+s.url()+"/docs", "# the API, in a browser")
	more.write(&b)
	b.WriteString("\nCtrl-C stops.\n")
	return b.String()
}

// dataFlag is how other commands find this system, if not by themselves.
func (s *system) dataFlag() string {
	if s.server == nil || s.p.globals.Data == "./courante-data" {
		return ""
	}
	return " --data " + quote(s.p.globals.Data)
}

// quote makes a word for a shell of it.
func quote(word string) string {
	if strings.ContainsAny(word, " \t\n'\"\\$`&|;<>()*?[]#~!") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// thousands writes 12345 as "12,345".
func thousands[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
