package courante

import "strings"

// The saga's declarations are data; the tests write them without the Go types
// and handlers that a service has.

func declare(name string, critical string, private ...string) *Service {
	s := NewService(name)
	add := func(typ string, need Need) {
		t := EventType{Name: "shop." + typ, Schema: 1, Need: need}
		s.events[t.Name] = t
		s.emitted = append(s.emitted, t)
	}
	for _, typ := range strings.Fields(critical) {
		add(typ, Critical)
	}
	for _, typs := range private {
		for _, typ := range strings.Fields(typs) {
			add(typ, Private)
		}
	}
	return s
}

// ev makes stored names of short ones.
func ev(names string) []string {
	types := strings.Fields(names)
	for i := range types {
		types[i] = "shop." + types[i]
	}
	return types
}

func (s *Service) does(t trigger, step Step) *Service {
	switch {
	case t.event != "":
		s.types = append(s.types, t.event)
		s.addStep(step, t)
	case t.effect != "":
		forever := strings.HasSuffix(t.effect, "!")
		t.effect = strings.TrimSuffix(t.effect, "!")
		s.effects[t.effect] = &effect{step: s.addStep(step, t), name: t.effect, forever: forever}
	default:
		if t.command != "" {
			t.command = step.Name
		}
		s.addStep(step, t)
	}
	return s
}

func (s *Service) on(event string, step Step) *Service {
	return s.does(trigger{event: "shop." + event}, step)
}
func (s *Service) commanded(step Step) *Service { return s.does(trigger{command: "?"}, step) }
func (s *Service) answered(effect string, step Step) *Service {
	return s.does(trigger{effect: effect}, step)
}
func (s *Service) due(name string, step Step) *Service { return s.does(trigger{deadline: name}, step) }

// orderSaga is shaped like the reference system's: stock, money and shipping,
// with shipping as the pivot.
func orderSaga() []*Service {
	ordering := declare("ordering", "order_created order_cancelling order_cancelled order_confirmed", "release_noted void_noted")
	ordering.Saga(Saga{Name: "order", Starts: "shop.order_created",
		Completed: ev("order_confirmed"), Compensated: ev("order_cancelled")})
	turn := Step{Unless: ev("order_cancelling order_confirmed"), Outcomes: []Outcome{
		{Emits: ev("order_cancelling"), Clears: []string{"order"}, Fails: true}}}
	named := func(s Step, name string) Step { s.Name = name; return s }
	ordering.
		commanded(Step{Name: "place order", Outcomes: []Outcome{{Emits: ev("order_created"), Sets: []string{"order"}}}}).
		commanded(named(turn, "cancel order")).
		due("order", named(turn, "give up order")).
		on("stock_rejected", named(turn, "cancel without stock")).
		on("payment_failed", named(turn, "cancel without payment")).
		on("shipping_failed", named(turn, "cancel without carrier")).
		on("shipping_arranged", Step{Name: "confirm order", Unless: ev("order_confirmed"), Outcomes: []Outcome{
			{Emits: ev("order_confirmed"), Clears: []string{"order"}}}}).
		on("stock_released", Step{Name: "note release", Unless: ev("release_noted"), Outcomes: []Outcome{
			{When: ev("void_noted"), Emits: ev("release_noted order_cancelled")},
			{Unless: ev("void_noted"), Emits: ev("release_noted")}}}).
		on("payment_voided", Step{Name: "note void", Unless: ev("void_noted"), Outcomes: []Outcome{
			{When: ev("release_noted"), Emits: ev("void_noted order_cancelled")},
			{Unless: ev("release_noted"), Emits: ev("void_noted")}}})

	inventory := declare("inventory", "stock_reserved stock_rejected stock_released", "stock_issued")
	inventory.
		on("order_created", Step{Name: "reserve stock", Unless: ev("stock_reserved stock_rejected stock_released"), Outcomes: []Outcome{
			{Emits: ev("stock_reserved")},
			{Emits: ev("stock_rejected"), Fails: true}}}).
		on("shipping_cancelled", Step{Name: "release stock", Undoes: "reserve stock", Unless: ev("stock_released"), Outcomes: []Outcome{
			{Emits: ev("stock_released")}}}).
		on("shipping_arranged", Step{Name: "issue stock", Unless: ev("stock_issued"), Outcomes: []Outcome{
			{Emits: ev("stock_issued")}}})

	payment := declare("payment", "payment_taken payment_failed payment_voided", "order_noted stock_noted payment_due payment_started void_started")
	payment.
		on("order_created", Step{Name: "note order", Unless: ev("order_noted"), Outcomes: []Outcome{
			{When: ev("stock_noted"), Emits: ev("order_noted payment_due")},
			{Unless: ev("stock_noted"), Emits: ev("order_noted")}}}).
		on("stock_reserved", Step{Name: "note stock", Unless: ev("stock_noted"), Outcomes: []Outcome{
			{When: ev("order_noted"), Emits: ev("stock_noted payment_due")},
			{Unless: ev("order_noted"), Emits: ev("stock_noted")}}}).
		on("payment_due", Step{Name: "charge", Unless: ev("payment_started payment_voided"), Outcomes: []Outcome{
			{Emits: ev("payment_started"), Asks: []string{"charge"}, Sets: []string{"charge"}}}}).
		answered("charge", Step{Name: "settle charge", Unless: ev("payment_failed void_started"), Outcomes: []Outcome{
			{Emits: ev("payment_taken"), Clears: []string{"charge"}},
			{Emits: ev("payment_failed"), Clears: []string{"charge"}, Fails: true}}}).
		due("charge", Step{Name: "give up charge", Undoes: "charge", Unless: ev("payment_taken payment_failed void_started"), Outcomes: []Outcome{
			{Emits: ev("payment_failed void_started"), Drops: []string{"charge"}, Asks: []string{"void"}}}}).
		on("shipping_cancelled", Step{Name: "void charge", Undoes: "charge", Unless: ev("void_started payment_voided"), Outcomes: []Outcome{
			{When: ev("payment_started"), Unless: ev("payment_failed"), Emits: ev("void_started"),
				Drops: []string{"charge"}, Asks: []string{"void"}, Clears: []string{"charge"}},
			{When: ev("payment_failed"), Emits: ev("payment_voided")},
			{Unless: ev("payment_started"), Emits: ev("payment_voided")}}}).
		answered("void!", Step{Name: "record void", Unless: ev("payment_voided"), Outcomes: []Outcome{
			{Emits: ev("payment_voided")}}})

	shipping := declare("shipping", "shipping_arranged shipping_failed shipping_cancelled", "booking_started cancelled_too_late booking_cancelled")
	shipping.
		on("payment_taken", Step{Name: "book carrier", Unless: ev("booking_started shipping_cancelled"), Outcomes: []Outcome{
			{Emits: ev("booking_started"), Asks: []string{"book"}, Sets: []string{"book"}}}}).
		answered("book", Step{Name: "arrange shipping", Pivot: true, Unless: ev("shipping_cancelled shipping_failed"), Outcomes: []Outcome{
			{Emits: ev("shipping_arranged"), Clears: []string{"book"}},
			{Emits: ev("shipping_failed"), Clears: []string{"book"}, Fails: true}}}).
		due("book", Step{Name: "give up booking", Unless: ev("shipping_arranged shipping_failed shipping_cancelled"), Outcomes: []Outcome{
			{Emits: ev("shipping_failed"), Drops: []string{"book"}, Asks: []string{"unbook"}}}}).
		on("order_cancelling", Step{Name: "cancel shipping", Unless: ev("shipping_cancelled cancelled_too_late"), Outcomes: []Outcome{
			{When: ev("shipping_arranged"), Emits: ev("cancelled_too_late")},
			{When: ev("shipping_failed"), Emits: ev("shipping_cancelled")},
			{When: ev("booking_started"), Unless: ev("shipping_arranged shipping_failed"), Emits: ev("shipping_cancelled"),
				Drops: []string{"book"}, Asks: []string{"unbook"}, Clears: []string{"book"}},
			{Unless: ev("booking_started"), Emits: ev("shipping_cancelled")}}}).
		answered("unbook!", Step{Name: "record cancelled booking", Unless: ev("booking_cancelled"), Outcomes: []Outcome{
			{Emits: ev("booking_cancelled")}}})

	notification := declare("notification", "", "mail_asked_confirmed mail_asked_cancelled mail_sent")
	notification.
		on("order_confirmed", Step{Name: "mail confirmation", Unless: ev("mail_asked_confirmed"), Outcomes: []Outcome{
			{Emits: ev("mail_asked_confirmed"), Asks: []string{"mail"}}}}).
		on("order_cancelled", Step{Name: "mail cancellation", Unless: ev("mail_asked_cancelled"), Outcomes: []Outcome{
			{Emits: ev("mail_asked_cancelled"), Asks: []string{"mail"}}}}).
		answered("mail!", Step{Name: "record mail", Unless: ev("mail_sent"), Outcomes: []Outcome{{Emits: ev("mail_sent")}}})
	return []*Service{ordering, inventory, payment, shipping, notification}
}
