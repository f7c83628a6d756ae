package main

import (
	"fmt"
	"io"
)

// welcome shows what to try: commands to copy, that work one after the other.
func welcome(w io.Writer, url, other string) {
	fmt.Fprintf(w, `  # put tea on the shelf, and order some
  curl -s %[1]s/v1/inventory/tea/receipts -H 'Content-Type: application/json' -d '{"quantity": 100}'
  curl -s %[1]s/v1/orders -H 'Content-Type: application/json' -d '{"order_id": "first", "customer_id": "me", "currency": "GBP",
    "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}],
    "payment": {"method": "card", "token": "tok_ok"}, "ship_to": {"country": "GB"}}'

  # see how it went, and who did what; mails are files in the data folder
  curl -s %[1]s/v1/orders/first
  courante saga show first%[2]s

  # the same with a card that is declined: "order_id": "second", "token": "tok_declined"

`, url, other)
}
