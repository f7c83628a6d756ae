package courantetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// The domain of these tests, as small as the mechanisms allow: an order has to
// get its goods from a hot row of stock and its money from a bank before it is
// confirmed, and may be cancelled at any moment until then.

type (
	ordered struct {
		ID, Ref, SKU string
		Qty, Price   int
	}
	confirmed struct{ ID string }
	cancelled struct{ ID string }

	reserved struct {
		ID    string
		Price int
	}
	refused  struct{ ID string }
	released struct{ ID string }
	shipped  struct{ ID string }

	charging struct {
		ID    string
		Price int
	}
	charged  struct{ ID string }
	declined struct{ ID string }
	blocked  struct{ ID string }
	voiding  struct{ ID string }
	voided   struct{ ID string }
)

func (ordered) EventType() string   { return "orders.ordered" }
func (confirmed) EventType() string { return "orders.confirmed" }
func (cancelled) EventType() string { return "orders.cancelled" }
func (reserved) EventType() string  { return "stock.reserved" }
func (refused) EventType() string   { return "stock.refused" }
func (released) EventType() string  { return "stock.released" }
func (shipped) EventType() string   { return "stock.shipped" }
func (charging) EventType() string  { return "till.charging" }
func (charged) EventType() string   { return "till.charged" }
func (declined) EventType() string  { return "till.declined" }
func (blocked) EventType() string   { return "till.blocked" }
func (voiding) EventType() string   { return "till.voiding" }
func (voided) EventType() string    { return "till.voided" }

// bank is the party outside. It keeps what it is told for ever: a charge by its
// idempotency key, and the orders for which nothing may be charged any more.
//
// It says no to prices that end in 3, and never answers those that end in 7.
type bank struct {
	charges map[string]charge
	closed  map[string]bool
}

var errSilent = courante.Unknown(errors.New("the bank does not answer"))

type charge struct {
	order  string
	amount int
}

func (b *bank) charge(key, order string, amount int) (bool, error) {
	if _, again := b.charges[key]; !again {
		if b.closed[order] || amount%10 == 3 {
			return false, nil
		}
		b.charges[key] = charge{order, amount}
	}
	return b.ask(key, amount)
}

func (b *bank) ask(key string, amount int) (bool, error) {
	if amount%10 == 7 {
		return false, errSilent
	}
	_, ok := b.charges[key]
	return ok, nil
}

// taken is what the bank holds of an order's money.
func (b *bank) taken(order string) (sum int) {
	if b.closed[order] {
		return 0
	}
	for _, c := range b.charges {
		if c.order == order {
			sum += c.amount
		}
	}
	return sum
}

// market is the domain inside one process.
type market struct {
	p                          *courantetest.Process
	orderService, stock, till  *courante.Service
	place, cancel, restock     *courante.Command
	orders, reservations, pays *courante.Entity[string] // the state is the name of the last event
	shelf                      *courante.Entity[shelf]
	log                        courante.Store
	flaws                      flaws
}

type shelf struct{ OnHand, Reserved int }

// flaws are bugs of a domain that tests plant in this one.
type flaws struct {
	freshKeys   bool // the bank gets another key at each attempt
	noGuard     bool // an order is taken without looking whether it is there
	noTombstone bool // a charge is begun though the order was cancelled before
	forgetVoid  bool // money that was taken is kept when the order is cancelled
	store       func(courante.Store) courante.Store
}

func one(names ...string) []string { return names }

// status is a state that only remembers the last event.
func status[P courante.Payload]() courante.Evolution[string] {
	return courante.Evolve(func(s *string, e P) { *s = e.EventType() })
}

// patience is short enough to end orders that wait for nothing but their time.
const patience = 20 * time.Second

func newMarket(p *courantetest.Process, b *bank, f flaws) (*market, []courante.Mount) {
	m := &market{p: p, flaws: f}
	m.declareOrders()
	m.declareStock()
	m.declareTill(b)
	var mounts []courante.Mount
	for _, s := range []*courante.Service{m.orderService, m.stock, m.till} {
		store := p.Store(s.Name())
		if f.store != nil {
			store = f.store(store)
		}
		mounts = append(mounts, courante.Mount{Service: s, Store: store})
	}
	m.log = p.Store("orders")
	return m, mounts
}

func (m *market) declareOrders() {
	s := courante.NewService("orders")
	m.orderService = s
	s.Emits(courante.Critical, ordered{}, confirmed{}, cancelled{})
	m.orders = courante.Sourced(s, "order", status[ordered](), status[confirmed](), status[cancelled]())
	m.place = courante.NewCommand(s, courante.Step{Name: "place", Outcomes: []courante.Outcome{{Emits: one("orders.ordered"), Sets: one("order")}}})
	end := courante.Outcome{Emits: one("orders.cancelled"), Clears: one("order"), Fails: true}
	m.cancel = courante.NewCommand(s, courante.Step{Name: "cancel", Outcomes: []courante.Outcome{end}})
	giveUp := func(d *courante.Decision, id string) error {
		if o := m.orders.Load(d, id); o.State == "orders.ordered" {
			o.Emit(cancelled{id}, courante.Clear("order"))
		}
		return nil
	}
	courante.OnDeadline(m.orders, "order", courante.Step{Name: "give up", Outcomes: []courante.Outcome{{Emits: one("orders.cancelled"), Fails: true}}}, giveUp)
	courante.On(s, courante.Reaction[refused]{
		Step: courante.Step{Name: "no goods", Outcomes: []courante.Outcome{end}},
		Do:   func(d *courante.Decision, e refused) error { return giveUp(d, e.ID) },
	})
	courante.On(s, courante.Reaction[declined]{
		Step: courante.Step{Name: "no money", Outcomes: []courante.Outcome{end}},
		Do:   func(d *courante.Decision, e declined) error { return giveUp(d, e.ID) },
	})
	courante.On(s, courante.Reaction[charged]{
		Step: courante.Step{Name: "confirm", Outcomes: []courante.Outcome{{Emits: one("orders.confirmed"), Clears: one("order")}}},
		Do: func(d *courante.Decision, e charged) error {
			if o := m.orders.Load(d, e.ID); o.State == "orders.ordered" {
				o.Emit(confirmed{e.ID}, courante.Clear("order"))
			}
			return nil
		},
	})
}

func (m *market) declareStock() {
	s := courante.NewService("stock")
	m.stock = s
	s.Emits(courante.Critical, reserved{}, refused{}, released{}, shipped{})
	m.shelf = courante.Stored[shelf](s, "shelf")
	m.reservations = courante.Sourced(s, "reservation", status[reserved](), status[refused](), status[released](), status[shipped]())
	m.restock = courante.NewCommand(s, courante.Step{Name: "restock"})
	courante.On(s, courante.Reaction[ordered]{
		Step: courante.Step{Name: "reserve", Outcomes: []courante.Outcome{{Emits: one("stock.reserved")}, {Emits: one("stock.refused"), Fails: true}}},
		Keys: func(e ordered) []courante.Key { return []courante.Key{m.shelf.Key(e.SKU), m.reservations.Key(e.ID)} },
		Do: func(d *courante.Decision, e ordered) error {
			r := m.reservations.Load(d, e.ID)
			if r.Exists() && !m.flaws.noGuard {
				return nil
			}
			shelf := m.shelf.Load(d, e.SKU)
			s := shelf.State
			if s.OnHand-s.Reserved < e.Qty {
				r.Emit(refused{e.ID})
				return nil
			}
			s.Reserved += e.Qty
			shelf.Put(s)
			r.Emit(reserved{e.ID, e.Price})
			return nil
		},
	})
	courante.On(s, courante.Reaction[cancelled]{
		Step: courante.Step{Name: "release", Undoes: "reserve", Outcomes: []courante.Outcome{{Emits: one("stock.released")}}},
		Do: func(d *courante.Decision, e cancelled) error {
			r := m.reservations.Load(d, e.ID)
			if r.State != "stock.reserved" {
				return nil
			}
			shelf := m.shelf.Load(d, "apple") // found out late, to have second rounds
			s := shelf.State
			s.Reserved--
			shelf.Put(s)
			r.Emit(released{e.ID})
			return nil
		},
	})
	courante.On(s, courante.Reaction[confirmed]{
		Step: courante.Step{Name: "ship", Pivot: true, Outcomes: []courante.Outcome{{Emits: one("stock.shipped")}}},
		Keys: func(e confirmed) []courante.Key { return []courante.Key{m.reservations.Key(e.ID)} },
		Do: func(d *courante.Decision, e confirmed) error {
			r := m.reservations.Load(d, e.ID)
			if r.State != "stock.reserved" {
				return courante.Park(fmt.Errorf("confirmed order %s has no goods", e.ID))
			}
			shelf := m.shelf.Load(d, "apple")
			s := shelf.State
			s.OnHand--
			s.Reserved--
			shelf.Put(s)
			r.Emit(shipped{e.ID})
			return nil
		},
	})
}

func (m *market) declareTill(b *bank) {
	s := courante.NewService("till")
	m.till = s
	s.Emits(courante.Critical, charging{}, charged{}, declined{}, blocked{}, voiding{}, voided{})
	m.pays = courante.Sourced(s, "pay", status[charging](), status[charged](), status[declined](), status[blocked](), status[voiding](), status[voided]())
	charge := courante.NewEffect(s, courante.EffectSpec[charging, bool]{
		Step: courante.Step{Name: "charged or not", Outcomes: []courante.Outcome{
			{Emits: one("till.charged"), Clears: one("charge")}, {Emits: one("till.declined"), Clears: one("charge"), Fails: true},
		}},
		Effect: "charge",
		Perform: func(_ context.Context, key string, req charging) (bool, error) {
			if m.flaws.freshKeys {
				key += m.p.NewID()
			}
			return courantetest.Outside(m.p, "charge "+req.ID, func() (bool, error) { return b.charge(key, req.ID, req.Price) })
		},
		Resolve: func(_ context.Context, key string, req charging) (ok, found bool, err error) {
			ok, err = courantetest.Outside(m.p, "ask "+req.ID, func() (bool, error) { return b.ask(key, req.Price) })
			return ok, ok, err
		},
		Then: func(d *courante.Decision, id string, _ charging, ok bool) error {
			if p := m.pays.Load(d, id); ok {
				p.Emit(charged{id}, courante.Clear("charge"))
			} else {
				p.Emit(declined{id}, courante.Clear("charge"))
			}
			return nil
		},
	})
	void := courante.NewEffect(s, courante.EffectSpec[string, bool]{
		Step: courante.Step{Name: "voided", Outcomes: []courante.Outcome{{Emits: one("till.voided")}}}, Effect: "void", UntilAnswered: true,
		Perform: func(_ context.Context, _ string, id string) (bool, error) {
			return courantetest.Outside(m.p, "void "+id, func() (bool, error) { b.closed[id] = true; return true, nil })
		},
		Then: func(d *courante.Decision, id string, _ string, _ bool) error {
			m.pays.Load(d, id).Emit(voided{id})
			return nil
		},
	})
	courante.On(s, courante.Reaction[reserved]{
		Step: courante.Step{Name: "charge", Unless: one("till.blocked"), Outcomes: []courante.Outcome{{Emits: one("till.charging"), Asks: one("charge"), Sets: one("charge")}}},
		Keys: func(e reserved) []courante.Key { return []courante.Key{m.pays.Key(e.ID)} },
		Do: func(d *courante.Decision, e reserved) error {
			p := m.pays.Load(d, e.ID)
			if p.Exists() && !(m.flaws.noTombstone && p.State == "till.blocked") {
				return nil
			}
			c := charging{e.ID, e.Price}
			p.Emit(c, charge.Ask(c), courante.Set("charge", d.Now().Add(time.Minute)))
			return nil
		},
	})
	courante.OnDeadline(m.pays, "charge",
		courante.Step{Name: "bank is silent", Outcomes: []courante.Outcome{{Emits: one("till.declined", "till.voiding"), Asks: one("void"), Drops: one("charge"), Fails: true}}},
		func(d *courante.Decision, id string) error {
			p := m.pays.Load(d, id)
			p.Emit(declined{id})
			p.Emit(voiding{id}, charge.Drop(), void.Ask(id))
			return nil
		})
	courante.On(s, courante.Reaction[cancelled]{
		Step: courante.Step{Name: "give back", Undoes: "charge", Outcomes: []courante.Outcome{
			{Emits: one("till.blocked")},
			{Emits: one("till.voiding"), Asks: one("void"), Drops: one("charge"), Clears: one("charge")},
			{Emits: one("till.voiding"), Asks: one("void")},
		}},
		Do: func(d *courante.Decision, e cancelled) error {
			switch p := m.pays.Load(d, e.ID); p.State {
			case "":
				p.Emit(blocked{e.ID})
			case "till.charging":
				p.Emit(voiding{e.ID}, charge.Drop(), courante.Clear("charge"), void.Ask(e.ID))
			case "till.charged":
				if !m.flaws.forgetVoid {
					p.Emit(voiding{e.ID}, void.Ask(e.ID))
				}
			}
			return nil
		},
	})
}

// stocked is how many apples there are.
const stocked = 7

// shopping is the simulation of the market: a few customers who order, and
// sometimes change their mind, with and without idempotency keys.
func shopping(f flaws) courantetest.Simulation[*market] {
	b := &bank{map[string]charge{}, map[string]bool{}}
	sent := map[string]bool{} // by the reference of a request: whether an order is certain to exist
	customer := func(c *courantetest.Client[*market]) {
		for range 2 {
			ref := c.NewID()
			o := ordered{ID: "o" + ref, Ref: ref, SKU: "apple", Qty: 1, Price: 100 + c.IntN(20)}
			withKey := c.IntN(2) == 0
			sent[ref] = false
			if err := c.Insist(func(m *market) error { return m.doPlace(&o, withKey) }, isRejection); err != nil && withKey {
				c.Errorf("place %s: %v", ref, err) // every call had the same key, so none can conflict
			}
			sent[ref] = true
			if c.IntN(3) == 0 {
				c.Sleep(time.Duration(c.IntN(3000)) * time.Millisecond)
				_ = c.Insist(func(m *market) error { return m.doCancel(o.ID) }, isRejection)
			}
			c.Sleep(time.Duration(c.IntN(2000)) * time.Millisecond)
		}
	}
	return courantetest.Simulation[*market]{
		Start: func(p *courantetest.Process) (*market, []courante.Mount) { return newMarket(p, b, f) },
		Clients: []func(*courantetest.Client[*market]){
			func(c *courantetest.Client[*market]) {
				_ = c.Insist(func(m *market) error { return m.doRestock(stocked) }, isRejection)
			},
			customer, customer, customer, customer, customer,
		},
		Check: func(ctx context.Context, m *market) error { return m.check(ctx, b, sent) },
	}
}

func isRejection(err error) bool {
	var no *courante.Rejection
	return errors.As(err, &no)
}

// doPlace takes an order. With an idempotency key the order's id is new each
// time, so that only the key keeps a repeated call from ordering twice.
func (m *market) doPlace(o *ordered, withKey bool) error {
	want := *o
	call := courante.Call{Keys: []courante.Key{m.orders.Key(want.ID)}}
	if withKey {
		want.ID = m.p.NewID()
		call = courante.Call{Idempotency: "place " + want.Ref}
	}
	call.Do = func(d *courante.Decision) error {
		order := m.orders.Load(d, want.ID)
		if order.Exists() && !m.flaws.noGuard {
			return courante.Reject("conflict", "%s exists", want.ID)
		}
		order.Emit(want, courante.Set("order", d.Now().Add(patience)))
		d.Reply(want.ID)
		return nil
	}
	res, err := m.place.Do(context.Background(), call)
	if err != nil {
		return err
	}
	return json.Unmarshal(res.Reply, &o.ID)
}

func (m *market) doCancel(id string) error {
	_, err := m.cancel.Do(context.Background(), courante.Call{Keys: []courante.Key{m.orders.Key(id)}, Do: func(d *courante.Decision) error {
		o := m.orders.Load(d, id)
		if o.State != "orders.ordered" {
			return courante.Reject("conflict", "%s is %s", id, o.State)
		}
		o.Emit(cancelled{id}, courante.Clear("order"))
		return nil
	}})
	return err
}

func (m *market) doRestock(n int) error {
	_, err := m.restock.Do(context.Background(), courante.Call{Keys: []courante.Key{m.shelf.Key("apple")}, Idempotency: "restock",
		Do: func(d *courante.Decision) error {
			s := m.shelf.Load(d, "apple")
			s.Put(shelf{s.State.OnHand + n, s.State.Reserved})
			return nil
		}})
	return err
}

// check is G3 and G4 for this domain.
func (m *market) check(ctx context.Context, b *bank, sent map[string]bool) error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	var orders []ordered
	events, _, err := m.log.ReadLog(ctx, courante.Cursor{}, 10_000)
	if err != nil {
		return err
	}
	refs := map[string]int{}
	for i := range events {
		if events[i].Type == "orders.ordered" {
			o, err := courante.Decode[ordered](&events[i])
			if err != nil {
				return err
			}
			orders = append(orders, o)
			refs[o.Ref]++
		}
	}
	for _, o := range orders {
		if refs[o.Ref] != 1 {
			problem("request %s made %d orders", o.Ref, refs[o.Ref])
		}
		delete(sent, o.Ref)
	}
	for ref, certain := range sent {
		if certain {
			problem("request %s was answered and made no order", ref)
		}
	}
	gone := 0
	for _, o := range orders {
		state, _, err := m.orders.Get(ctx, o.ID)
		if err != nil {
			return err
		}
		want := 0
		switch state {
		case "orders.confirmed":
			want = o.Price
			gone++
		case "orders.cancelled":
		default:
			problem("order %s has not ended, it is %s", o.ID, state)
		}
		if got := b.taken(o.ID); got != want {
			problem("the bank holds %d of order %s, which is %s and costs %d", got, o.ID, state, o.Price)
		}
	}
	s, _, err := m.shelf.Get(ctx, "apple")
	if err != nil {
		return err
	}
	if s.OnHand < 0 || s.Reserved != 0 || s.OnHand+gone != stocked {
		problem("of %d apples %d went out and the shelf has %+v", stocked, gone, s)
	}
	return errors.Join(problems...)
}
