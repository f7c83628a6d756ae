package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/courante-dev/courante/shop"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// check is what G3 and G4 mean to the shop.
func (w *town) check(ctx context.Context, s *InProcess) error {
	charges, err := w.provider.Charges(ctx)
	if err != nil {
		return err
	}
	bookings, err := w.carrier.Bookings(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, lie := range w.lies {
		problems = append(problems, errors.New(lie))
	}
	gone := map[string]int64{}
	for _, o := range w.orders {
		order, err := s.orders.Order(ctx, o.id)
		if err != nil {
			return err
		}
		e := ending{o, order, charges[payment.ChargeKey(o.id)], bookings[shipping.BookingKey(o.id)], w.mails[o.id]}
		for _, problem := range e.problems() {
			problems = append(problems, fmt.Errorf("order %s is %s: %s", o.id, order.Status, problem))
		}
		if order.Status == ordering.Confirmed || order.Status == ordering.Returned {
			for _, l := range order.Lines {
				if l.Kind == shop.Goods {
					gone[l.SKU] += l.Quantity - l.ReturnedQuantity
				}
			}
		}
	}
	for _, sku := range append([]string{counted}, skus...) {
		level, err := s.stock.Level(ctx, sku)
		if err != nil {
			return err
		}
		if level.OnHand < 0 || level.Reserved != 0 || level.OnHand+gone[sku] != received+found {
			problems = append(problems, fmt.Errorf("of %d %s customers have %d, and the stock is %+v", received+found, sku, gone[sku], level))
		}
	}
	return errors.Join(problems...)
}

// believe holds a mail about a return to the provider's books: the customer is
// told when the money is back, and not before.
func (w *town) believe(m notification.Mail) {
	if m.ReturnID == "" || m.Refunded.Amount == 0 {
		return
	}
	charges, err := w.provider.Charges(context.Background())
	if given := charges[payment.ChargeKey(m.OrderID)].Refunds[payment.RefundKey(m.OrderID, m.ReturnID)]; err != nil || given != m.Refunded.Amount {
		w.lies = append(w.lies, fmt.Sprintf("return %s: the mail says %s, and the provider has given back %d, %v", m.ReturnID, m.Refunded, given, err))
	}
}

// ending is an order at the end, in the books of all who had to do with it.
type ending struct {
	wish    *wish
	order   ordering.Order
	charge  outside.Charge
	booking outside.Booking
	mails   []string
}

func (e ending) problems() (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	carried := e.booking.Tracking != "" && !e.booking.Cancelled
	var kept int64
	var mails []string
	refunds := map[string]int64{}
	switch e.order.Status {
	case ordering.Confirmed, ordering.Returned:
		kept = e.order.Total.Amount
		mails = []string{"confirmation"}
		for _, r := range e.wish.returned {
			kept -= r.Refund.Amount
			mails = append(mails, "refund")
			if r.Refund.Amount > 0 {
				refunds[payment.RefundKey(e.wish.id, r.ReturnID)] = r.Refund.Amount
			}
		}
		if carried != (e.wish.goods > 0) {
			problem("it has %d goods, and the carrier says %+v", e.wish.goods, e.booking)
		}
	case ordering.Cancelled:
		mails = []string{"cancellation"}
		if carried {
			problem("the carrier says %+v", e.booking)
		}
		if len(e.wish.returned) > 0 {
			problem("it was returned: %+v", e.wish.returned)
		}
	default:
		problem("it has not ended")
		return problems
	}
	if e.charge.Kept() != kept || !maps.Equal(e.charge.Refunds, refunds) {
		problem("the provider is to keep %d and to have refunded %v, and says %+v", kept, refunds, e.charge)
	}
	if got := slices.Sorted(slices.Values(e.mails)); !slices.Equal(got, mails) {
		problem("the mails are %v, want %v", got, mails)
	}
	return append(problems, e.returns()...)
}

// returns compares the lines of the order with what its customer returned.
func (e ending) returns() (problems []string) {
	back := make([]int64, len(e.order.Lines)+1)
	for _, r := range e.wish.returned {
		for _, l := range r.Lines {
			back[l.Line] += l.Quantity
		}
	}
	all := e.wish.goods > 0
	for _, l := range e.order.Lines {
		if l.ReturnedQuantity != back[l.Line] || l.ReturnedQuantity > l.Quantity {
			problems = append(problems, fmt.Sprintf("%d of %d pieces of line %d are returned, and the customer says %d", l.ReturnedQuantity, l.Quantity, l.Line, back[l.Line]))
		}
		all = all && (l.Kind == shop.Charge || l.ReturnedQuantity == l.Quantity)
	}
	if all != (e.order.Status == ordering.Returned) {
		problems = append(problems, fmt.Sprintf("all goods are back: %t", all))
	}
	return problems
}
