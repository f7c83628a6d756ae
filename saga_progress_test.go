package courante

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const tracedBy = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// happened makes an event of order 17; a second is how long after noon.
func happened(stream string, version int64, typ string, second int, causation string, notes *Notes) Event {
	category, _, _ := strings.Cut(stream, ":")
	log := map[string]string{"order": "ordering", "stock": "inventory", "payment": "payment", "shipment": "shipping"}[category]
	if !strings.Contains(typ, ".") {
		typ = "shop." + typ
	}
	return Event{
		Log: log, Stream: stream, Version: version, Type: typ, Schema: 1, Time: noon.Add(time.Duration(second) * time.Second),
		Correlation: "17", Causation: causation, Trace: tracedBy, Notes: notes,
	}
}

func after(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// charging is an order whose payment is under way.
func charging() []Event {
	return []Event{
		happened("order:17", 1, "order_created", 0, "command:c1", &Notes{Set: []Deadline{{"order", after(60)}}}),
		happened("stock:17", 1, "stock_reserved", 1, "ordering/order:17@1", nil),
		happened("payment:17", 1, "order_noted", 1, "ordering/order:17@1", nil),
		happened("payment:17", 2, "stock_noted", 2, "inventory/stock:17@1", nil),
		happened("payment:17", 3, "payment_due", 2, "inventory/stock:17@1", nil),
		happened("payment:17", 4, "payment_started", 3, "payment/payment:17@3", &Notes{
			Set: []Deadline{{"charge", after(13)}},
			Ask: []Request{{ID: "payment/payment:17@4/charge", Effect: "charge"}},
		}),
	}
}

// paid goes on from charging until the order waits for the carrier to be asked.
func paid() []Event {
	return append(charging(), happened("payment:17", 5, "payment_taken", 4, "payment/payment:17@4/charge",
		&Notes{Clear: []string{"charge"}, Done: []string{"payment/payment:17@4/charge"}}))
}

// confirmed goes on to the end.
func confirmed() []Event {
	return append(paid(),
		happened("shipment:17", 1, "booking_started", 5, "payment/payment:17@5", &Notes{
			Set: []Deadline{{"book", after(15)}}, Ask: []Request{{ID: "shipping/shipment:17@1/book", Effect: "book"}}}),
		happened("shipment:17", 2, "shipping_arranged", 6, "shipping/shipment:17@1/book",
			&Notes{Clear: []string{"book"}, Done: []string{"shipping/shipment:17@1/book"}}),
		happened("stock:17", 2, "stock_issued", 7, "shipping/shipment:17@2", nil),
		happened("order:17", 2, "order_confirmed", 7, "shipping/shipment:17@2", &Notes{Clear: []string{"order"}}),
	)
}

// cancelled is an order whose payment ran into its deadline.
func cancelled() []Event {
	return append(charging(),
		happened("payment:17", 5, "payment_failed", 13, "payment:17/deadline/charge",
			&Notes{Clear: []string{"charge"}, Done: []string{"payment/payment:17@4/charge"}}),
		happened("payment:17", 6, "void_started", 13, "payment:17/deadline/charge",
			&Notes{Ask: []Request{{ID: "payment/payment:17@6/void", Effect: "void"}}}),
		happened("order:17", 2, "order_cancelling", 14, "payment/payment:17@5", &Notes{Clear: []string{"order"}}),
		happened("shipment:17", 1, "shipping_cancelled", 15, "ordering/order:17@2", nil),
		happened("stock:17", 2, "stock_released", 16, "shipping/shipment:17@1", nil),
		happened("order:17", 3, "release_noted", 17, "inventory/stock:17@2", nil),
	)
}

// declined is an order whose payment the provider refused.
func declined() []Event {
	return append(charging(),
		happened("payment:17", 5, "payment_failed", 4, "payment/payment:17@4/charge",
			&Notes{Clear: []string{"charge"}, Done: []string{"payment/payment:17@4/charge"}}),
		happened("order:17", 2, "order_cancelling", 5, "payment/payment:17@5", &Notes{Clear: []string{"order"}}),
		happened("shipment:17", 1, "shipping_cancelled", 6, "ordering/order:17@2", nil),
		happened("payment:17", 6, "payment_voided", 7, "shipping/shipment:17@1", nil),
		happened("stock:17", 2, "stock_released", 7, "shipping/shipment:17@1", nil),
		happened("order:17", 3, "release_noted", 8, "inventory/stock:17@2", nil),
		happened("order:17", 4, "void_noted", 9, "payment/payment:17@6", nil),
		happened("order:17", 5, "order_cancelled", 9, "payment/payment:17@6", nil),
	)
}

// voided goes on from cancelled to the end.
func voided() []Event {
	return append(cancelled(),
		happened("payment:17", 7, "payment_voided", 18, "payment/payment:17@6/void", &Notes{Done: []string{"payment/payment:17@6/void"}}),
		happened("order:17", 4, "void_noted", 19, "payment/payment:17@7", nil),
		happened("order:17", 5, "order_cancelled", 19, "payment/payment:17@7", nil),
	)
}

func TestSagaProgress(t *testing.T) {
	t.Parallel()
	services := orderSaga()[:4] // without the mails, which are after the end
	g, err := BuildSaga(services, "order")
	if err != nil {
		t.Fatal(err)
	}
	at := func(second int) *time.Time { due := after(second); return &due }
	cases := []struct {
		name    string
		events  []Event
		parked  []Parked
		now     int // seconds after noon
		state   string
		steps   string // name:state, the ones that matter, in order
		waiting string
		until   *time.Time
		cause   string
	}{
		{
			name: "nothing happened yet", now: 0, state: SagaRunning,
		},
		{
			name: "an effect is open until its deadline", events: charging(), now: 5, state: SagaRunning,
			steps:   "place order:done reserve stock:done note order:done note stock:done charge:done",
			waiting: "effect charge of payment", until: at(13),
		},
		{
			name: "a reaction that is due is shown", events: paid(), now: 5, state: SagaRunning,
			steps:   "charge:done settle charge:done book carrier:waiting",
			waiting: "shipping to book carrier", until: at(60),
		},
		{
			name: "a parked message makes it stuck, and says why", events: paid(), now: 5, state: SagaStuck,
			parked:  []Parked{{Subscriber: "shipping", Reaction: "book carrier", Event: paid()[6], Cause: "no such country"}},
			steps:   "settle charge:done book carrier:waiting",
			waiting: "shipping to book carrier", until: at(60),
			cause: `shipping parked shop.payment_taken ("book carrier"): no such country`,
		},
		{
			name: "a parked message of another saga does not matter", events: paid(), now: 5, state: SagaRunning,
			parked:  []Parked{{Subscriber: "shipping", Event: Event{Correlation: "18"}, Cause: "no such country"}},
			waiting: "shipping to book carrier", until: at(60),
		},
		{
			name: "a deadline that passed and did not fire makes it stuck", events: charging(), now: 13 + 61, state: SagaStuck,
			waiting: "deadline charge of payment", until: at(13),
			cause: "deadline charge of payment passed at 2026-03-01T12:00:13Z and nothing came of it",
		},
		{
			name: "an outside party that never answers makes it stuck", events: cancelled(), now: 13 + 61, state: SagaStuck,
			waiting: "effect void of payment",
			cause:   "effect void of payment has not answered since 2026-03-01T12:00:13Z",
		},
		{
			name: "what was undone says so", events: cancelled(), now: 20, state: SagaRunning,
			steps: "reserve stock:undone note order:done note stock:done charge:undone give up charge:done " +
				"cancel without payment:failed cancel shipping:done release stock:done note release:done",
			waiting: "effect void of payment",
		},
		{
			name: "what failed was not undone", events: declined(), now: 3600, state: SagaCompensated,
			steps: "reserve stock:undone note order:done note stock:done charge:failed settle charge:failed " +
				"cancel without payment:failed cancel shipping:done release stock:done void charge:done",
		},
		{
			name: "a completed saga", events: confirmed(), now: 8, state: SagaCompleted,
			steps: "book carrier:done arrange shipping:done issue stock:done confirm order:done",
		},
		{
			name: "a compensated saga", events: voided(), now: 3600, state: SagaCompensated,
			steps: "record void:done note void:done",
		},
		{
			name:   "a completed saga of which a message is parked is stuck",
			events: append(confirmed()[:9:9], confirmed()[10]), now: 8, state: SagaStuck,
			parked:  []Parked{{Subscriber: "inventory", Reaction: "issue stock", Event: confirmed()[8], Cause: "no such bin"}},
			steps:   "arrange shipping:done confirm order:done issue stock:waiting",
			waiting: "inventory to issue stock",
			cause:   `inventory parked shop.shipping_arranged ("issue stock"): no such bin`,
		},
		{
			name: "a reaction that was lost makes it stuck", events: append(confirmed()[:9:9],
				happened("order:17", 2, "order_confirmed", 7, "shipping/shipment:17@2", &Notes{Clear: []string{"order"}})),
			now: 6 + 61, state: SagaStuck,
			waiting: "inventory to issue stock", cause: "inventory to issue stock: due since 2026-03-01T12:00:06Z",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The order in which the logs are read must not matter, nor that an
			// event is read twice.
			for _, events := range [][]Event{c.events, reversed(c.events), append(reversed(c.events), c.events...)} {
				got := SagaProgress(g, events, c.parked, after(c.now))
				if got.State != c.state || got.Cause != c.cause {
					t.Errorf("state %s (%s), want %s (%s)", got.State, got.Cause, c.state, c.cause)
				}
				var steps []string
				for _, st := range got.Steps {
					steps = append(steps, st.Name+":"+st.State)
				}
				if all := strings.Join(steps, " "); !strings.Contains(all, c.steps) {
					t.Errorf("steps: %s\nwant:  %s", all, c.steps)
				}
				switch {
				case c.waiting == "" && got.Waiting != nil:
					t.Errorf("waits for %q, want nothing", got.Waiting.For)
				case c.waiting != "" && (got.Waiting == nil || got.Waiting.For != c.waiting):
					t.Errorf("waits for %+v, want %q", got.Waiting, c.waiting)
				case c.waiting != "" && fmt.Sprint(got.Waiting.Until) != fmt.Sprint(c.until):
					t.Errorf("waits until %v, want %v", got.Waiting.Until, c.until)
				}
			}
		})
	}
}

func reversed(events []Event) []Event {
	back := make([]Event, 0, len(events))
	for i := range events {
		back = append(back, events[len(events)-1-i])
	}
	return back
}

func TestAnEffectThatComesBeforeItsCauseByTheClockIsStillShownAfterIt(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(orderSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	events := charging()[:2]
	events[1].Time = noon.Add(-time.Second) // the clock of inventory is behind
	got := SagaProgress(g, events, nil, after(1))
	if got.Steps[0].Name != "place order" || got.Steps[1].Name != "reserve stock" {
		t.Errorf("steps: %+v", got.Steps)
	}
}

// A deadline or an answer of which nothing came leaves an event of the
// runtime's own.
func TestAStepThatEmitsNothingIsShown(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(orderSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	events := slices.Concat(confirmed()[:10], []Event{happened("order:17", 2, closedType, 60, "order:17/deadline/order", &Notes{Clear: []string{"order"}})})
	got := SagaProgress(g, events, nil, after(61))
	for _, st := range got.Steps {
		if st.Name == "give up order" && st.State == StepDone && len(st.Events) == 0 {
			return
		}
	}
	t.Errorf("steps: %+v", got.Steps)
}

func TestSagaStatusAsJSON(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(orderSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(SagaProgress(g, charging()[:1], nil, after(1)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"saga":"order","id":"17","state":"running","steps":[` +
		`{"name":"place order","service":"ordering","state":"done","at":"2026-03-01T12:00:00Z","trace_id":"0af7651916cd43dd8448eb211c80319c","events":["shop.order_created"],"caused_by":"command:c1"},` +
		`{"name":"reserve stock","service":"inventory","state":"waiting","at":"2026-03-01T12:00:00Z","trace_id":"0af7651916cd43dd8448eb211c80319c","caused_by":"ordering/order:17@1"},` +
		`{"name":"note order","service":"payment","state":"waiting","at":"2026-03-01T12:00:00Z","trace_id":"0af7651916cd43dd8448eb211c80319c","caused_by":"ordering/order:17@1"}],` +
		`"waiting":{"for":"inventory to reserve stock","until":"2026-03-01T12:01:00Z"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Two commands may emit the same event, and the log does not name commands: what
// was emitted with it tells which one it was.
func TestProgressTellsCommandsApart(t *testing.T) {
	t.Parallel()
	services := smallSaga()
	desk := services[0]
	desk.commanded(Step{Name: "end", Outcomes: []Outcome{{Emits: ev("done")}}}).
		commanded(Step{Name: "end for good", Outcomes: []Outcome{{Emits: ev("done off")}}})
	g, err := BuildSaga(services, "order")
	if err != nil {
		t.Fatal(err)
	}
	event := func(version int64, typ string) Event {
		return Event{Log: "desk", Stream: "order:17", Version: version, Type: "shop." + typ, Correlation: "17", Causation: "command:c1", Time: noon}
	}
	for want, events := range map[string][]Event{
		"end":          {event(2, "done")},
		"end for good": {event(2, "done"), event(3, "off")},
	} {
		first := event(1, "asked")
		first.Causation = "command:c0"
		steps := SagaProgress(g, append([]Event{first}, events...), nil, noon).Steps
		if len(steps) < 2 || steps[1].Name != want {
			t.Errorf("the steps are %+v, want the second to be %q", steps, want)
		}
	}
}
