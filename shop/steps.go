package shop

// InventoryReserved says that every goods line of the order is set aside.
type InventoryReserved struct {
	OrderID string `json:"order_id"`
}

func (InventoryReserved) EventType() string { return "shop.inventory_reserved" }
func (e InventoryReserved) Order() string   { return e.OrderID }

// InventoryRejected says that nothing is set aside, because of the SKUs named.
type InventoryRejected struct {
	OrderID string  `json:"order_id"`
	Short   []Short `json:"short"`
}

// Short is a SKU of which there is not enough.
type Short struct {
	SKU       string `json:"sku"`
	Wanted    int64  `json:"wanted"`
	Available int64  `json:"available"`
}

func (InventoryRejected) EventType() string { return "shop.inventory_rejected" }
func (e InventoryRejected) Order() string   { return e.OrderID }

// InventoryReleased says that nothing is, or ever will be, set aside for the
// cancelled order.
type InventoryReleased struct {
	OrderID string `json:"order_id"`
}

func (InventoryReleased) EventType() string { return "shop.inventory_released" }
func (e InventoryReleased) Order() string   { return e.OrderID }

// InventoryIssued says that the goods of the shipped order left the stock.
type InventoryIssued struct {
	OrderID string `json:"order_id"`
}

func (InventoryIssued) EventType() string { return "shop.inventory_issued" }
func (e InventoryIssued) Order() string   { return e.OrderID }

// StockReceived says that goods came in.
type StockReceived struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	OnHand   int64  `json:"on_hand"`  // after it
	Reserved int64  `json:"reserved"` // of them
}

func (StockReceived) EventType() string { return "shop.stock_received" }

// StockAdjusted says that the stock was found to be another than recorded.
type StockAdjusted struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"` // signed
	Reason   string `json:"reason"`
	OnHand   int64  `json:"on_hand"`  // after it
	Reserved int64  `json:"reserved"` // of them
}

func (StockAdjusted) EventType() string { return "shop.stock_adjusted" }

// PaymentProcessed says that the order's total was taken; nothing was to be
// taken if it is 0.
type PaymentProcessed struct {
	OrderID string `json:"order_id"`
	Amount  Money  `json:"amount"`
}

func (PaymentProcessed) EventType() string { return "shop.payment_processed" }
func (e PaymentProcessed) Order() string   { return e.OrderID }

// PaymentDeclined says that the order will not be paid.
type PaymentDeclined struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"` // of the provider, or "timeout"
}

func (PaymentDeclined) EventType() string { return "shop.payment_declined" }
func (e PaymentDeclined) Order() string   { return e.OrderID }

// PaymentSettled says that no money is, or ever will be, kept for the cancelled
// order.
type PaymentSettled struct {
	OrderID  string `json:"order_id"`
	Refunded Money  `json:"refunded"` // what was taken and given back; amount 0 if nothing was taken
}

func (PaymentSettled) EventType() string { return "shop.payment_settled" }
func (e PaymentSettled) Order() string   { return e.OrderID }

// ShippingArranged says that the order is on its way. It is the pivot: from
// here on nothing is undone any more.
type ShippingArranged struct {
	OrderID  string `json:"order_id"`
	Tracking string `json:"tracking,omitempty"` // of the carrier; "" if nothing of the order is shipped
}

func (ShippingArranged) EventType() string { return "shop.shipping_arranged" }
func (e ShippingArranged) Order() string   { return e.OrderID }

// ShippingFailed says that no carrier takes the order.
type ShippingFailed struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

func (ShippingFailed) EventType() string { return "shop.shipping_failed" }
func (e ShippingFailed) Order() string   { return e.OrderID }

// ShippingCancelled says that the order is not, and never will be, shipped: now
// what was done for it can be undone.
type ShippingCancelled struct {
	OrderID string `json:"order_id"`
}

func (ShippingCancelled) EventType() string { return "shop.shipping_cancelled" }
func (e ShippingCancelled) Order() string   { return e.OrderID }
