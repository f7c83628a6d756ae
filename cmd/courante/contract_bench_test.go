package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/shop/ordering"
)

// BenchmarkGateway is what an order of 24 lines costs before anything is
// decided: routing, reading, checking. The order is refused at the last check,
// that of its total, so nothing behind the gateway runs.
func BenchmarkGateway(b *testing.B) {
	gw, err := gateway.New(gateway.Config{Title: "t", Version: "v"})
	if err != nil {
		b.Fatal(err)
	}
	ordering.New(ordering.Config{}).Routes(gw.API())
	var lines []string
	for i := range 24 {
		lines = append(lines, fmt.Sprintf(`{"sku":"sku-%d","description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":1000000,"unit_price":%d}`, i, 1_000_000_000_000-i))
	}
	body := `{"order_id":"o-1","customer_id":"17850","currency":"GBP","lines":[` + strings.Join(lines, ",") +
		`],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB","city":"London","postal_code":"SW1A 1AA","address":"10 Example Street"}}`
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		gw.ServeHTTP(w, r)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "total") {
			b.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
}
