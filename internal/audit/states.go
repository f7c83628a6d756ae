package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// folds says how the states of each category follow from the data of events: a
// field of the state takes that of an event, named by path. What happened is in
// "past" of each.
var folds = map[string]map[string]map[string]string{
	"order": {
		"shop.order_created":       {"customer_id": "customer_id", "total": "total", "fingerprint": "fingerprint", "refunded.currency": "total.currency"},
		"ordering.order_shipped":   {"tracking": "tracking"},
		"shop.order_cancelling":    {"reason": "reason"},
		"ordering.payment_settled": {"refunded.amount": "refunded.amount"},
		"shop.order_cancelled":     {"reason": "reason"},
	},
	"payment": {
		"payment.order_noted":    {"customer_id": "customer_id", "token": "token", "amount": "amount"},
		"payment.requested":      {"customer_id": "customer_id", "amount": "amount"},
		"shop.payment_processed": {"amount": "amount"},
		"payment.voided":         {"refunded": "refunded"},
		"shop.payment_settled":   {"refunded": "refunded"},
	},
	"shipment": {
		"shipping.order_noted": {"customer_id": "customer_id", "ship_to": "ship_to", "has_goods": "has_goods"},
	},
	"mail": {},
}

// readSnapshots folds again each stream that has a baseline, and compares.
func (a *auditor) readSnapshots(ctx context.Context) error {
	for _, s := range a.services {
		l := a.log(s)
		rows, err := a.q.Query(ctx, "select stream, version, data::text, open::text from "+l.schema+".snapshot order by stream, version")
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (storedState, error) {
			s := storedState{table: l.schema + ".snapshot"}
			return s, row.Scan(&s.stream, &s.version, &s.data, &s.open)
		})
		if err != nil {
			return err
		}
		for i := range list {
			if err := a.checkSnapshot(ctx, l, &list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *auditor) checkSnapshot(ctx context.Context, l *eventLog, row *storedState) error {
	c := a.checks.states
	c.LookedAt++
	name := fmt.Sprintf("%s, version %d", row.name(), row.version)
	rows, err := a.q.Query(ctx, "select "+eventColumns+" from "+l.schema+".event where stream = $1 and version <= $2 order by version", row.stream, row.version)
	if err != nil {
		return err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event, error) { return a.scanEvent(row, l) })
	if err != nil {
		return err
	}
	if int64(len(events)) != row.version {
		c.wrong(name, "its stream has %d events", len(events))
		return nil
	}
	var p pending
	var quiet Check // the stream itself was looked at before
	for i := range events {
		p.add(&events[i], &quiet)
	}
	a.checkWaits(name, row.open, &p)
	category, _, _ := strings.Cut(row.stream, ":")
	fields, known := folds[category]
	if !known {
		return nil
	}
	var stored struct {
		State map[string]any `json:"state"`
	}
	if err := json.Unmarshal(row.data, &stored); err != nil {
		c.wrong(name, "it cannot be read: %v", err)
		return nil
	}
	for path, want := range folded(fields, events) {
		got := at(stored.State, path)
		if !reflect.DeepEqual(got, want) && !(got == nil && reflect.ValueOf(want).IsZero()) {
			c.wrong(name, "its %s is %v, and the log says %v", path, got, want)
		}
	}
	return nil
}

// folded is the state after the events, by path.
func folded(fields map[string]map[string]string, events []event) map[string]any {
	state := map[string]any{}
	past := []any{}
	for i := range events {
		e := &events[i]
		var data map[string]any
		if json.Unmarshal(e.data, &data) != nil {
			continue // reported when the stream was read
		}
		for to, from := range fields[e.typ] {
			if v := at(data, from); v != nil {
				state[to] = v
			}
		}
		if e.typ != closedType && !slices.Contains(past, any(e.typ)) {
			past = append(past, e.typ)
		}
	}
	state["past"] = past
	return state
}

// at is the value at a path of names; nil if there is none.
func at(value map[string]any, path string) any {
	first, rest, more := strings.Cut(path, ".")
	if !more {
		return value[first]
	}
	inner, _ := value[first].(map[string]any)
	return at(inner, rest)
}
