package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// writeDay writes a day of n orders for a replay: with every means of payment
// and every kind of place, some cancelled and some returned. Their ids begin
// with the prefix.
func writeDay(name, prefix string, rnd *rand.Rand, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	lines := json.NewEncoder(out)
	write := func(kind string, body map[string]any) {
		err = errors.Join(err, lines.Encode(map[string]any{kind: body}))
	}
	skus := []string{"tea", "cup", "pot", "tray", "jam"}
	for _, sku := range skus {
		write("receive_stock", map[string]any{"sku": sku, "quantity": 2 * n})
	}
	write("receive_stock", map[string]any{"sku": "gold", "quantity": 3}) // not enough for all, so that some are rejected
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	for i := range n {
		id := fmt.Sprintf("%s-%05d", prefix, i)
		var lines []map[string]any
		for range rnd.IntN(4) {
			lines = append(lines, map[string]any{"sku": pick(skus...), "quantity": 1 + rnd.IntN(2), "unit_price": 100 + rnd.IntN(900)})
		}
		if rnd.IntN(12) == 0 {
			lines = append(lines, map[string]any{"sku": "gold", "quantity": 1, "unit_price": 99_999})
		}
		if len(lines) == 0 || rnd.IntN(5) == 0 {
			lines = append(lines, map[string]any{"sku": "POST", "quantity": 1, "unit_price": 500, "kind": "charge"})
		}
		write("create_order", map[string]any{
			"order_id": id, "customer_id": fmt.Sprint("customer-", rnd.IntN(50)), "currency": "GBP", "lines": lines,
			"payment": map[string]any{"method": "card", "token": pick("tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok",
				"tok_declined", "tok_flaky", "tok_slow", "tok_lost", "tok_timeout", "tok_late")},
			"ship_to": map[string]any{"country": pick("GB", "GB", "GB", "GB", "GB", "GB", "FR", "DE", "ZZ", "XS")},
		})
		switch rnd.IntN(12) {
		case 0:
			write("cancel_order", map[string]any{"order_id": id})
		case 1:
			write("return_order", map[string]any{"order_id": id, "lines": []any{map[string]any{"line": 1, "quantity": 1}}})
		case 2:
			var all []any
			for l, line := range lines {
				all = append(all, map[string]any{"line": l + 1, "quantity": line["quantity"]})
			}
			write("return_order", map[string]any{"order_id": id, "lines": all})
		case 3:
			write("adjust_stock", map[string]any{"sku": pick(skus...), "quantity": 1, "reason": "found behind the shelf"})
		}
	}
	return errors.Join(err, out.Flush(), f.Close())
}

// killPostgres kills all of the embedded PostgreSQL, as the machine's end would.
func killPostgres(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("find PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return fmt.Errorf("find PostgreSQL: %w", err)
	}
	children, _ := exec.Command("pgrep", "-P", first).Output() // none is no error of ours
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	for child := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
		}
	}
	return nil
}
