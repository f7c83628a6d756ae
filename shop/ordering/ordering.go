package ordering

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Name is the name of the context, of its service and of its log.
const Name = "ordering"

// orderCategory is that of orders, whose streams are "order:" and the id.
const orderCategory = "order"

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Deadline is how long an order may take from its creation to being
	// shipped before it is cancelled; default 60 s. It should exceed the
	// deadlines of payment and shipping together.
	Deadline time.Duration
}

// Context is the context of ordering.
type Context struct {
	svc      *courante.Service
	cfg      Config
	orders   *courante.Entity[order]
	views    *courante.Collection // of orders
	watch    *courante.Watch
	returns  *courante.Entity[goodsReturn]
	place    *courante.Command
	cancel   *courante.Command
	giveBack *courante.Command
}

// New declares the context.
func New(cfg Config) *Context {
	if cfg.Deadline == 0 {
		cfg.Deadline = 60 * time.Second
	}
	c := &Context{svc: courante.NewService(Name), cfg: cfg}
	c.svc.Emits(courante.Critical, shop.OrderCreated{}, shop.OrderCancelling{}, shop.OrderCancelled{}, shop.OrderConfirmed{})
	c.svc.Emits(courante.Private, orderReserved{}, orderPaid{}, orderShipped{}, goodsIssued{}, goodsReleased{}, paymentSettled{})
	c.svc.Emits(courante.Critical, shop.ReturnRequested{}, shop.ReturnCompleted{})
	c.svc.Emits(courante.Bulk, shop.OrderReturned{})
	c.svc.Emits(courante.Private, returnOpened{}, goodsBack{}, moneyBack{}, returnClosed{})
	c.orders = courante.Sourced(c.svc, orderCategory, evolutions()...)
	c.views = courante.NewCollection(c.orders, "order", 1, orderDocument)
	c.declareWatch()
	c.returns = courante.Sourced(c.svc, "return", returnEvolutions()...)
	c.svc.Tables(migrations())
	c.svc.Project(orderList())
	c.svc.Saga(courante.Saga{
		Name:        "order",
		Starts:      shop.OrderCreated{}.EventType(),
		Completed:   courante.Types(shop.OrderConfirmed{}),
		Compensated: courante.Types(shop.OrderCancelled{}),
		Within:      cfg.Deadline,
		Value:       orderValue,
	})
	c.declareCommands()
	c.declareSteps()
	c.declareReturns()
	return c
}

// Service is the declaration to hand to a runtime.
func (c *Context) Service() *courante.Service { return c.svc }

// Routes adds the context's HTTP operations to the API.
func (c *Context) Routes(api huma.API) { c.routes(api) }

// orderValue is the money that depends on an order.
func orderValue(e *courante.Event) (int64, string) {
	created, err := courante.Decode[shop.OrderCreated](e)
	if err != nil {
		return 0, ""
	}
	return created.Total.Amount, created.Total.Currency
}
