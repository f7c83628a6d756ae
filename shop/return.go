package shop

// ReturnEvent is what all events about one return have in common. A return is
// a saga of its own, because an order may have several: its events carry the
// return's id as their correlation.
type ReturnEvent interface {
	OrderEvent
	// Return is the id of the return.
	Return() string
}

// ReturnRequested says that a customer gives back something of a confirmed
// order. It is on the order's stream, so that two returns of the same lines are
// decided one after the other, and it is final: the goods go back to the stock
// and the money to the customer, however often that has to be tried.
type ReturnRequested struct {
	OrderID    string         `json:"order_id"`
	ReturnID   string         `json:"return_id"`
	CustomerID string         `json:"customer_id" personal:"true"`
	Lines      []ReturnedLine `json:"lines"`
	Refund     Money          `json:"refund"`     // what the lines cost
	GoodsLeft  int64          `json:"goods_left"` // pieces of goods that the customer still has after it
}

// ReturnedLine is what is returned of one line of an order. Each line is named
// at most once in a return.
type ReturnedLine struct {
	Line      int    `json:"line"` // of the order, counted from 1
	SKU       string `json:"sku"`
	Kind      string `json:"kind"` // Goods or Charge
	Quantity  int64  `json:"quantity"`
	UnitPrice int64  `json:"unit_price"` // minor units of the order's currency
}

func (ReturnRequested) EventType() string     { return "shop.return_requested" }
func (e ReturnRequested) Order() string       { return e.OrderID }
func (e ReturnRequested) Return() string      { return e.ReturnID }
func (e ReturnRequested) PersonalKey() string { return e.CustomerID }

// ReturnRestocked says that the goods of a return are on hand again; none had
// to be if it is of charges alone.
type ReturnRestocked struct {
	OrderID  string `json:"order_id"`
	ReturnID string `json:"return_id"`
}

func (ReturnRestocked) EventType() string { return "shop.return_restocked" }
func (e ReturnRestocked) Order() string   { return e.OrderID }
func (e ReturnRestocked) Return() string  { return e.ReturnID }

// ReturnRefunded says that the customer has the money for a return; none was
// given back if the amount is 0.
type ReturnRefunded struct {
	OrderID  string `json:"order_id"`
	ReturnID string `json:"return_id"`
	Amount   Money  `json:"amount"`
}

func (ReturnRefunded) EventType() string { return "shop.return_refunded" }
func (e ReturnRefunded) Order() string   { return e.OrderID }
func (e ReturnRefunded) Return() string  { return e.ReturnID }

// ReturnCompleted says that a return is over: the goods are on hand and the
// money is given back.
type ReturnCompleted struct {
	OrderID    string `json:"order_id"`
	ReturnID   string `json:"return_id"`
	CustomerID string `json:"customer_id" personal:"true"`
	Refund     Money  `json:"refund"`
}

func (ReturnCompleted) EventType() string     { return "shop.return_completed" }
func (e ReturnCompleted) Order() string       { return e.OrderID }
func (e ReturnCompleted) Return() string      { return e.ReturnID }
func (e ReturnCompleted) PersonalKey() string { return e.CustomerID }

// OrderReturned says that all goods of the order are back and its returns are
// complete. It is on the order's stream, once. Charges may have stayed paid,
// and may still be returned. An order without goods is never returned.
type OrderReturned struct {
	OrderID string `json:"order_id"`
}

func (OrderReturned) EventType() string { return "shop.order_returned" }
func (e OrderReturned) Order() string   { return e.OrderID }
