package main_test

import (
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// TestShopSagasHold explores every order of arrival that the declarations
// allow, with duplicates and deadlines that fire at any time.
func TestShopSagasHold(t *testing.T) {
	t.Parallel()
	reports, err := courante.CheckSagas([]*courante.Service{
		ordering.New(ordering.Config{}).Service(),
		inventory.New(inventory.Config{}).Service(),
		payment.New(payment.Config{}).Service(),
		shipping.New(shipping.Config{}).Service(),
		notification.New(notification.Config{}).Service(),
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var sagas []string
	for _, r := range reports {
		sagas = append(sagas, r.Saga)
	}
	if want := []string{"order", "return"}; !slices.Equal(sagas, want) {
		t.Fatalf("sagas checked: %v, want %v", sagas, want)
	}
	for _, r := range reports {
		if !r.Complete {
			t.Errorf("saga %s: only %d states were explored", r.Saga, r.States)
		}
		for _, p := range r.Problems {
			t.Errorf("saga %s: %s: %s", r.Saga, p.Rule, p)
		}
		t.Logf("saga %s: %d states", r.Saga, r.States)
	}
}
