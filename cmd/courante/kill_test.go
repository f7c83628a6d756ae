//go:build linux || darwin

package main

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
)

// TestKilled kills the program with orders under way, again and again, and then
// looks whether any order, piece of stock or penny is missing or there twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	const (
		rounds   = 3
		perRound = 20
		stock    = 1000
	)
	p := up(t, dir)
	if status, answer := p.call(http.MethodPost, "/v1/inventory/tea/receipts", fmt.Sprintf(`{"quantity": %d}`, stock)); status != http.StatusCreated {
		t.Fatalf("receive stock: %d %v", status, answer)
	}
	var ids []string
	for round := range rounds {
		for i := range perRound {
			id := fmt.Sprintf("order-%d-%d", round, i)
			ids = append(ids, id)
			token := "tok_ok"
			if i%4 == 3 {
				token = "tok_declined"
			}
			p.place(id, token)
		}
		// All are accepted; how far each has come is chance, the last have not.
		p.signal(syscall.SIGKILL)
		p.end()
		p = up(t, dir)
	}
	confirmed := 0
	for i, id := range ids {
		want := "confirmed"
		if i%perRound%4 == 3 {
			want = "cancelled"
		} else {
			confirmed++
		}
		p.becomes(id, want)
	}
	_, level := p.call(http.MethodGet, "/v1/inventory/tea", "")
	// place orders two of them.
	if level["reserved"] != 0.0 || level["on_hand"] != float64(stock-2*confirmed) {
		t.Errorf("got stock %v, want none reserved and %d on hand after %d shipped orders", level, stock-2*confirmed, confirmed)
	}
	p.signal(syscall.SIGINT)
	if code := p.end(); code != exitOK {
		t.Errorf("got exit code %d after an interrupt, want %d", code, exitOK)
	}
}
