package inventory

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Name is the name of the context, of its service and of its log.
const Name = "inventory"

// Config says what can be chosen: nothing yet.
type Config struct{}

// Context is the context of inventory.
type Context struct {
	svc          *courante.Service
	stocks       *courante.Entity[stock]
	reservations *courante.Entity[reservation]
	returns      *courante.Entity[restocking]
	receive      *courante.Command
	adjust       *courante.Command
}

// stock is what there is of one SKU.
type stock struct {
	OnHand   int64 `json:"on_hand"`
	Reserved int64 `json:"reserved"` // of them, for orders under way
}

func (s stock) available() int64 { return s.OnHand - s.Reserved }

// reservation is what is set aside for one order.
type reservation struct {
	Items []item        `json:"items,omitempty"` // sorted by SKU, each once
	Past  courante.Past `json:"past"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// New declares the context.
func New(Config) *Context {
	c := &Context{svc: courante.NewService(Name)}
	c.svc.Emits(courante.Critical,
		shop.InventoryReserved{}, shop.InventoryRejected{}, shop.InventoryReleased{}, shop.InventoryIssued{},
		shop.ReturnRestocked{})
	c.svc.Emits(courante.Bulk, shop.StockReceived{}, shop.StockAdjusted{})
	c.stocks = courante.Stored[stock](c.svc, "stock")
	c.reservations = courante.Stored[reservation](c.svc, "reservation")
	c.returns = courante.Stored[restocking](c.svc, "return")
	c.declareCommands()
	c.declareSteps()
	c.declareReturns()
	c.declareCounts()
	return c
}

// Service is the declaration to hand to a runtime.
func (c *Context) Service() *courante.Service { return c.svc }

// Routes adds the context's HTTP operations to the API.
func (c *Context) Routes(api huma.API) { c.routes(api) }
