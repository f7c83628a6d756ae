package audit

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rule says how the states of a category follow from the data of events.
type rule struct {
	// fields says, by event type, which field of the state takes which of the
	// event, named by path.
	fields map[string]map[string]string
	// forgets are events that are not among the "past" of the state.
	forgets []string
	// more folds what no field of an event says; may be nil.
	more func(state map[string]any, e *event)
}

// rules are those of all categories that are folds of their streams.
var rules = map[string]rule{
	"ordering/order": {
		fields: map[string]map[string]string{
			"shop.order_created":       {"customer_id": "customer_id", "total": "total", "fingerprint": "fingerprint", "refunded.currency": "total.currency"},
			"ordering.order_shipped":   {"tracking": "tracking"},
			"shop.order_cancelling":    {"reason": "reason"},
			"ordering.payment_settled": {"refunded.amount": "refunded.amount"},
			"shop.order_cancelled":     {"reason": "reason"},
		},
		forgets: []string{"shop.return_requested", "ordering.return_closed"},
		more:    foldReturns,
	},
	"ordering/return": {
		fields: map[string]map[string]string{
			"ordering.return_opened": {"order_id": "order_id", "customer_id": "customer_id", "refund": "refund", "fingerprint": "fingerprint"},
		},
		forgets: []string{"ordering.return_opened"},
	},
	"payment/payment": {
		fields: map[string]map[string]string{
			"payment.order_noted":    {"customer_id": "customer_id", "token": "token", "amount": "amount"},
			"payment.requested":      {"customer_id": "customer_id", "amount": "amount"},
			"shop.payment_processed": {"amount": "amount"},
			"payment.voided":         {"refunded": "refunded"},
			"shop.payment_settled":   {"refunded": "refunded"},
		},
	},
	"payment/return": {},
	"shipping/shipment": {
		fields: map[string]map[string]string{
			"shipping.order_noted": {"customer_id": "customer_id", "ship_to": "ship_to", "has_goods": "has_goods"},
		},
	},
	"notification/mail":   {},
	"notification/return": {},
}

// foldReturns is what an order knows of its returns.
func foldReturns(state map[string]any, e *event) {
	var p returnRequested
	if e.typ != "shop.return_requested" && e.typ != "ordering.return_closed" || readJSON(e.data, &p) != nil {
		return
	}
	returning, _ := state["returning"].([]any)
	if e.typ == "ordering.return_closed" {
		state["returning"] = slices.DeleteFunc(slices.Clone(returning), func(id any) bool { return id == p.ReturnID })
		return
	}
	state["returning"] = append(slices.Clone(returning), p.ReturnID)
	returned, _ := state["returned"].(map[string]any)
	if returned == nil {
		returned = map[string]any{}
		state["returned"] = returned
	}
	for _, l := range p.Lines {
		line := strconv.Itoa(l.Line)
		before, _ := returned[line].(float64)
		returned[line] = before + float64(l.Quantity)
		if l.Kind == goods && p.GoodsLeft == 0 {
			state["goods_back"] = true
		}
	}
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
			s := storedState{table: l.label + ".snapshot"}
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
	rows, err := a.q.Query(ctx, "select '', "+eventColumns+" from "+l.schema+".event where stream = $1 and version <= $2 order by version", row.stream, row.version)
	if err != nil {
		return err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event, error) { return a.scanEvent(row, l) })
	if err != nil {
		return err
	}
	if int64(len(events)) != row.version {
		c.wrong(name, "up to there its stream has %d events", len(events))
		return nil
	}
	var p pending
	var quiet Check // the stream itself was looked at before
	for i := range events {
		p.add(&events[i], &quiet)
	}
	a.checkWaits(name, row.open, &p)
	category, _, _ := strings.Cut(row.stream, ":")
	r, known := rules[l.name+"/"+category]
	if !known {
		c.wrong(name, "it is a baseline of a state that is no fold of its stream")
		return nil
	}
	var stored struct {
		State map[string]any `json:"state"`
	}
	if err := readJSON(row.data, &stored); err != nil {
		c.wrong(name, "it cannot be read: %v", err)
		return nil
	}
	state := r.fold(events)
	for _, path := range slices.Sorted(maps.Keys(state)) {
		got, want := at(stored.State, path), state[path]
		if !reflect.DeepEqual(got, want) && !(got == nil && empty(want)) {
			c.wrong(name, "its %s is %v, and the log says %v", path, got, want)
		}
	}
	return nil
}

// empty reports whether a value may as well be left out.
func empty(v any) bool {
	r := reflect.ValueOf(v)
	return r.IsZero() || (r.Kind() == reflect.Slice || r.Kind() == reflect.Map) && r.Len() == 0
}

// fold is the state after the events, by path.
func (r rule) fold(events []event) map[string]any {
	state := map[string]any{}
	past := []any{}
	for i := range events {
		e := &events[i]
		var data map[string]any
		if readJSON(e.data, &data) != nil {
			continue // reported when the stream was read
		}
		for to, from := range r.fields[e.typ] {
			state[to] = at(data, from)
		}
		if r.more != nil {
			r.more(state, e)
		}
		if e.typ != closedType && !slices.Contains(r.forgets, e.typ) && !slices.Contains(past, any(e.typ)) {
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
