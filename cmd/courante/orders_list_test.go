//go:build linux || darwin

package main

import (
	"fmt"
	"net/http"
	"testing"
)

// testOrderList reads the list of what TestUp has placed: "first" is
// confirmed, "second" is cancelled. The list follows at a distance.
func testOrderList(t *testing.T, p *process) {
	p.until("the list to have both orders as they ended", func() bool {
		_, ended := p.call(http.MethodGet, "/v1/orders?status=confirmed", "")
		_, other := p.call(http.MethodGet, "/v1/orders?status=cancelled", "")
		confirmed, _ := ended["items"].([]any)
		cancelled, _ := other["items"].([]any)
		return len(confirmed) == 1 && len(cancelled) == 1
	}, func() any { return "other orders" })
	list := func(query string) (ids []string, next any) {
		t.Helper()
		status, answer := p.call(http.MethodGet, "/v1/orders"+query, "")
		items, ok := answer["items"].([]any)
		if status != http.StatusOK || !ok {
			t.Fatalf("list %s: %d %v", query, status, answer)
		}
		for _, item := range items {
			item := item.(map[string]any)
			ids = append(ids, item["order_id"].(string))
			_, order := p.call(http.MethodGet, "/v1/orders/"+item["order_id"].(string), "")
			for _, field := range []string{"customer_id", "status", "version", "currency", "total"} {
				if fmt.Sprint(item[field]) != fmt.Sprint(order[field]) {
					t.Errorf("%s of %s: the list says %v, the order %v", field, item["order_id"], item[field], order[field])
				}
			}
			if item["lines"] != float64(len(order["lines"].([]any))) || item["created_at"] != order["timeline"].([]any)[0].(map[string]any)["at"] {
				t.Errorf("got %v, want the number of lines and the time of creation of %v", item, order)
			}
		}
		return ids, answer["next_cursor"]
	}
	want := func(query, ids string) any {
		t.Helper()
		got, next := list(query)
		if fmt.Sprint(got) != ids {
			t.Errorf("list %s: got %v, want %s", query, got, ids)
		}
		return next
	}
	next := want("?limit=1", "[second]")
	if next = want(fmt.Sprintf("?limit=1&cursor=%v", next), "[first]"); next != nil {
		t.Errorf("got %v as the cursor after the last page, want null", next)
	}
	want("?status=cancelled", "[second]")
	want("?status=confirmed&customer_id=&cursor=", "[first]")
	want("?status=returned", "[]")
	want("?customer_id=nobody", "[]")

	for query, status := range map[string]int{
		"?status=gone": http.StatusUnprocessableEntity, "?limit=0": http.StatusUnprocessableEntity, "?limit=201": http.StatusUnprocessableEntity,
		"?customer_id=%20": http.StatusUnprocessableEntity, "?cursor=nonsense": http.StatusBadRequest,
	} {
		if got, answer := p.call(http.MethodGet, "/v1/orders"+query, ""); got != status || answer["errors"] == nil {
			t.Errorf("list %s: %d %v, want %d", query, got, answer, status)
		}
	}
	if got, answer := p.call(http.MethodGet, "/v1/orders", "", "Courante-Token", "nonsense"); got != http.StatusBadRequest {
		t.Errorf("list with a token that makes no sense: %d %v, want 400", got, answer)
	}

	// Who has placed an order and says so finds it in the list.
	_, placed := p.call(http.MethodPost, "/v1/orders", order("listed", "tok_declined"))
	_, answer := p.call(http.MethodGet, "/v1/orders?limit=1", "", "Courante-Token", fmt.Sprint(placed["token"]))
	if items, _ := answer["items"].([]any); len(items) != 1 || items[0].(map[string]any)["order_id"] != "listed" {
		t.Errorf("got %v, want the order that was placed just now", answer)
	}
	p.becomes("listed", "cancelled")
}
