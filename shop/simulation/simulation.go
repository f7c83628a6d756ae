// Package simulation is the whole shop under one scheduler: several processes,
// which die, freeze and are replaced, customers who change their mind before
// and after they have the goods, and a provider, a carrier and a post that lose
// requests and answers. Whatever happens, G3 and G4 hold in the end.
//
// It is a package, and not a test, because the program runs it too: an operator
// sees with "courante saga check --coverage" that what is installed can take
// every way that it declares.
package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// InProcess is the shop inside one process.
type InProcess struct {
	orders *ordering.Context
	stock  *inventory.Context
}

// town is what is outside of the shop, and what its customers know.
type town struct {
	ledger   *outside.MemoryLedger
	provider *outside.Provider
	carrier  *outside.Carrier
	mails    map[string][]string // kinds of mails, by order
	sent     map[string]bool     // keys of mails

	orders    []*wish
	lies      []string // mails that were not true when they were sent
	regretted []*wish  // those that somebody is about to return
}

// wish is an order as its customer wants it.
type wish struct {
	id       string
	place    ordering.PlaceOrder
	goods    int64 // pieces, all of one SKU
	returned []ordering.ReturnAccepted
}

// received is how much of each SKU comes in, and found what turns up besides:
// too little for everybody.
const received, found = 5, 1

// New builds the shop and a town around it, to be run with a seed of its own.
func New() courantetest.Simulation[*InProcess] {
	w := &town{ledger: outside.NewMemoryLedger(), mails: map[string][]string{}, sent: map[string]bool{}}
	warehouse := func(c *courantetest.Client[*InProcess]) {
		for _, sku := range skus {
			key := "receive " + sku
			if err := c.Insist(func(s *InProcess) error {
				_, err := s.stock.Receive(context.Background(), key, sku, received)
				return err
			}, rejected); err != nil {
				c.Errorf("%s: %v", key, err)
			}
			if err := c.Insist(func(s *InProcess) error {
				_, err := s.stock.Adjust(context.Background(), "adjust "+sku, sku, found, "found behind the shelf")
				return err
			}, rejected); err != nil {
				c.Errorf("adjust %s: %v", sku, err)
			}
		}
		w.count(c)
	}
	return courantetest.Simulation[*InProcess]{
		Start:   w.start,
		Clients: []func(*courantetest.Client[*InProcess]){warehouse, w.customer, w.customer, w.customer, w.customer, w.relative},
		Check:   w.check,
	}
}

// count has somebody outside say how much there is of something that nobody
// orders; each time twice, because nobody knows what has arrived.
func (w *town) count(c *courantetest.Client[*InProcess]) {
	insist := func(what string, call func(s *InProcess) error) {
		if err := c.Insist(call, rejected); err != nil {
			c.Errorf("%s: %v", what, err)
		}
	}
	insist("receive "+counted, func(s *InProcess) error {
		_, err := s.stock.Receive(context.Background(), "receive "+counted, counted, received)
		return err
	})
	for n := range 4 {
		e := courante.CloudEvent{
			ID: fmt.Sprint(n / 2), Source: "/warehouse", Type: "warehouse.stock_counted",
			Data: json.RawMessage(fmt.Sprintf(`{"sku":%q,"on_hand":%d}`, counted, received+found)),
		}
		insist("count "+counted, func(s *InProcess) error { return s.stock.Service().Receive(context.Background(), e) })
	}
}

var skus = []string{"tea", "cup"}

// counted is a SKU that only the warehouse cares for.
const counted = "crate"

// start makes the contexts as a process does, each with its own way to those
// outside.
func (w *town) start(p *courantetest.Process) (*InProcess, []courante.Mount) {
	if w.provider == nil {
		cfg := outside.Config{Now: p.Now, Wait: func(_ context.Context, d time.Duration) error {
			if d > time.Minute {
				return context.DeadlineExceeded // the caller gives up first
			}
			return nil // how long a call takes, the simulation decides
		}}
		w.provider, w.carrier = outside.NewProvider(w.ledger, cfg), outside.NewCarrier(w.ledger, cfg)
	}
	s := &InProcess{orders: ordering.New(ordering.Config{}), stock: inventory.New(inventory.Config{})}
	var mounts []courante.Mount
	for _, svc := range []*courante.Service{
		s.orders.Service(), s.stock.Service(),
		payment.New(payment.Config{Provider: provider{p, w}}).Service(),
		shipping.New(shipping.Config{Carrier: carrier{p, w}}).Service(),
		notification.New(notification.Config{Mailer: mailer{p, w}}).Service(),
	} {
		mounts = append(mounts, courante.Mount{Service: svc, Store: p.Store(svc.Name())})
	}
	return s, mounts
}

// customer places two orders, as people do: with means of payment and to
// places that work or do not, with an idempotency key or an id of their own,
// and now and then with second thoughts.
func (w *town) customer(c *courantetest.Client[*InProcess]) {
	pick := func(from ...string) string { return from[c.IntN(len(from))] }
	for range 2 {
		o := &wish{}
		o.place = ordering.PlaceOrder{
			CustomerID: "anna", Currency: "GBP",
			Payment: ordering.PaymentBy{Method: "card", Token: pick("tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky", "tok_slow", "tok_timeout", "tok_late", "tok_lost")},
			ShipTo:  ordering.ShipTo{Country: pick("GB", "GB", "GB", "GB", "ZZ", "XS")},
		}
		if c.IntN(8) > 0 {
			o.goods = 1 + int64(c.IntN(2))
			line := ordering.OrderLine{SKU: pick(skus...), Quantity: o.goods, UnitPrice: 250}
			if o.goods == 2 && c.IntN(2) == 0 {
				line.Quantity = 1 // of each of two lines
				o.place.Lines = append(o.place.Lines, line)
			}
			o.place.Lines = append(o.place.Lines, line)
		}
		if o.goods == 0 || c.IntN(3) == 0 {
			o.place.Lines = append(o.place.Lines, ordering.OrderLine{SKU: "card", Quantity: 1, UnitPrice: int64(c.IntN(2)) * 99, Kind: "charge"})
		}
		key := ""
		if c.IntN(2) == 0 {
			key = c.NewID()
		} else {
			o.place.OrderID = "o" + c.NewID()
		}
		var placed ordering.Placed
		if err := c.Insist(func(s *InProcess) (err error) {
			placed, err = s.orders.Place(context.Background(), key, &o.place)
			return err
		}, rejected); err != nil {
			c.Errorf("place: %v", err)
		}
		o.id = placed.OrderID
		w.orders = append(w.orders, o)
		if c.IntN(3) == 0 {
			c.Sleep(time.Duration(c.IntN(15_000)) * time.Millisecond)
			if err := c.Insist(func(s *InProcess) error {
				_, _, err := s.orders.Cancel(context.Background(), "", o.id, "second thoughts")
				return err
			}, rejected); err != nil && !conflict(err) {
				c.Errorf("cancel %s: %v", o.id, err)
			}
		}
		if c.IntN(2) == 0 {
			w.regretted = append(w.regretted, o)
			for range 1 + c.IntN(2) {
				w.giveBack(c, o)
			}
		}
		c.Sleep(time.Duration(c.IntN(2000)) * time.Millisecond)
	}
}

// relative returns what others are about to return, too.
func (w *town) relative(c *courantetest.Client[*InProcess]) {
	for range 4 {
		c.Sleep(time.Duration(c.IntN(10_000)) * time.Millisecond)
		if n := len(w.regretted); n > 0 {
			w.giveBack(c, w.regretted[c.IntN(n)])
		}
	}
}

// giveBack returns some or all of an order as soon as it is confirmed. By then
// somebody else may have returned the same.
func (w *town) giveBack(c *courantetest.Client[*InProcess], o *wish) {
	var some ordering.ReturnOrder
	switch c.IntN(3) {
	case 0: // everything
		for i, l := range o.place.Lines {
			some.Lines = append(some.Lines, ordering.ReturnLine{Line: i + 1, Quantity: l.Quantity})
		}
	case 1: // one piece of some line
		some.Lines = []ordering.ReturnLine{{Line: 1 + c.IntN(len(o.place.Lines)), Quantity: 1}}
	case 2: // all of a SKU
		some.Lines = []ordering.ReturnLine{{SKU: o.place.Lines[0].SKU, Quantity: max(o.goods, 1)}}
	}
	key := c.NewID()
	for range 10 { // seconds: what is not confirmed by then may never be
		var accepted ordering.ReturnAccepted
		err := c.Insist(func(s *InProcess) (err error) {
			accepted, err = s.orders.Return(context.Background(), key, o.id, &some)
			return err
		}, rejected)
		var no *ordering.NotReturnable
		switch {
		case err == nil:
			o.returned = append(o.returned, accepted)
			return
		case conflict(err):
			c.Sleep(time.Second)
		case errors.As(err, &no):
			return
		default:
			c.Errorf("return of %s: %v", o.id, err)
		}
	}
}

func rejected(err error) bool {
	var no *courante.Rejection
	return errors.As(err, &no)
}

func conflict(err error) bool {
	var no *courante.Rejection
	return errors.As(err, &no) && no.Code == "conflict"
}
