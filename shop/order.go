package shop

// OrderEvent is what all events about one order have in common.
type OrderEvent interface {
	EventType() string
	// Order is the id of the order.
	Order() string
}

// OrderCreated says that a customer placed an order. Everybody who takes part
// in it learns from it all that he needs to know.
type OrderCreated struct {
	OrderID    string  `json:"order_id"`
	CustomerID string  `json:"customer_id" personal:"true"`
	Lines      []Line  `json:"lines"`
	Total      Money   `json:"total"`
	Payment    Payment `json:"payment"`
	ShipTo     Address `json:"ship_to"`

	// Fingerprint is the hash of the request, by which the same request sent
	// again is told from another one with the same order id.
	Fingerprint string `json:"fingerprint"`
}

// Line is one line of an order.
type Line struct {
	SKU         string `json:"sku"`
	Description string `json:"description,omitempty"`
	Quantity    int64  `json:"quantity"`
	UnitPrice   int64  `json:"unit_price"` // minor units of the order's currency
	Kind        string `json:"kind"`       // Goods or Charge
}

// Payment says how an order is to be paid.
type Payment struct {
	Method string `json:"method"`
	Token  string `json:"token" personal:"true"` // of the payment provider, stands for the customer's card
}

// Address says where an order goes. The country is not personal data by
// itself and stays readable after an erasure.
type Address struct {
	Country    string `json:"country"`
	Region     string `json:"region,omitempty" personal:"true"`
	City       string `json:"city,omitempty" personal:"true"`
	PostalCode string `json:"postal_code,omitempty" personal:"true"`
	Address    string `json:"address,omitempty" personal:"true"`
}

func (OrderCreated) EventType() string     { return "shop.order_created" }
func (e OrderCreated) Order() string       { return e.OrderID }
func (e OrderCreated) PersonalKey() string { return e.CustomerID }

// HasGoods reports whether anything of the order is shipped.
func (e OrderCreated) HasGoods() bool {
	for _, line := range e.Lines {
		if line.Kind == Goods {
			return true
		}
	}
	return false
}

// OrderCancelling says that the order is not to go on. It is a wish until
// shipping answers with ShippingCancelled: an order that has been shipped goes
// on in spite of it.
type OrderCancelling struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

func (OrderCancelling) EventType() string { return "shop.order_cancelling" }
func (e OrderCancelling) Order() string   { return e.OrderID }

// OrderCancelled says that the order ended and everything is undone: nothing
// is reserved for it and no money is kept.
type OrderCancelled struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id" personal:"true"`
	Total      Money  `json:"total"`
	Refunded   Money  `json:"refunded"` // what was taken and given back
	Reason     string `json:"reason"`
}

func (OrderCancelled) EventType() string     { return "shop.order_cancelled" }
func (e OrderCancelled) Order() string       { return e.OrderID }
func (e OrderCancelled) PersonalKey() string { return e.CustomerID }

// OrderConfirmed says that the order ended well: it is paid, shipped, and off
// the stock.
type OrderConfirmed struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id" personal:"true"`
	Total      Money  `json:"total"`
	Tracking   string `json:"tracking,omitempty"` // "" if nothing of it is shipped
}

func (OrderConfirmed) EventType() string     { return "shop.order_confirmed" }
func (e OrderConfirmed) Order() string       { return e.OrderID }
func (e OrderConfirmed) PersonalKey() string { return e.CustomerID }
