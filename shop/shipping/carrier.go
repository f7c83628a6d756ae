package shipping

import (
	"context"
	"errors"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Carrier is the carrier. It is an interface because it is another company:
// production has a client of its API here, development a simulation.
//
// The same key always stands for the same booking, however often it is sent.
// An error means that there was no answer; the booking may have been made all
// the same, unless the error has a method NotDone() bool that says true.
type Carrier interface {
	// Book books the transport to an address. It answers with a tracking
	// number, or says why it refuses.
	Book(ctx context.Context, key, country, address string) (tracking, refused string, err error)

	// Lookup says what became of the booking with that key; found is false if
	// the carrier has never heard of it.
	Lookup(ctx context.Context, key string) (tracking, refused string, found bool, err error)

	// Cancel undoes the booking with that key. The booking need not have
	// arrived yet: if it comes later it is refused.
	Cancel(ctx context.Context, key string) error
}

// BookingKey is the carrier's key for the booking of an order. It depends on
// nothing but the order's id, so that an order is shipped at most once even if
// our own memory of having asked were lost.
func BookingKey(orderID string) string { return "order:" + orderID }

type bookRequest struct {
	OrderID string       `json:"order_id"`
	ShipTo  shop.Address `json:"ship_to"`
}

type bookOutcome struct {
	Tracking string
	Refused  string // why; "" if it is booked
}

type cancelRequest struct {
	OrderID string `json:"order_id"`
}

func (c *Context) performBook(ctx context.Context, _ string, r bookRequest) (bookOutcome, error) {
	tracking, refused, err := c.cfg.Carrier.Book(ctx, BookingKey(r.OrderID), r.ShipTo.Country, label(r.ShipTo))
	return bookOutcome{tracking, refused}, unlessNotDone(err)
}

func (c *Context) lookupBooking(ctx context.Context, _ string, r bookRequest) (bookOutcome, bool, error) {
	tracking, refused, found, err := c.cfg.Carrier.Lookup(ctx, BookingKey(r.OrderID))
	return bookOutcome{tracking, refused}, found, err
}

func (c *Context) performCancel(ctx context.Context, _ string, r cancelRequest) (struct{}, error) {
	return struct{}{}, c.cfg.Carrier.Cancel(ctx, BookingKey(r.OrderID))
}

// label is the address as it is printed on the parcel.
func label(a shop.Address) string {
	var lines []string
	for _, line := range []string{a.Address, strings.TrimSpace(a.PostalCode + " " + a.City), a.Region} {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// unlessNotDone marks an error as an unknown outcome, unless it says itself
// that nothing was done.
func unlessNotDone(err error) error {
	var e interface{ NotDone() bool }
	if errors.As(err, &e) && e.NotDone() {
		return err
	}
	return courante.Unknown(err)
}
