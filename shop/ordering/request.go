package ordering

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/courante-dev/courante/shop"
)

// PlaceOrder is the request to take an order. The tags are the limits as the
// API's description publishes them; [PlaceOrder.Problems] checks all of them
// and what tags cannot say.
type PlaceOrder struct {
	OrderID    string      `json:"order_id,omitempty" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" doc:"Chosen by the caller, or by the shop if it is absent" example:"first"`
	CustomerID string      `json:"customer_id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"17850"`
	Currency   string      `json:"currency" doc:"ISO 4217" minLength:"3" maxLength:"3" example:"GBP"`
	Lines      []OrderLine `json:"lines" minItems:"1" maxItems:"2000" nullable:"false"`
	Payment    PaymentBy   `json:"payment"`
	ShipTo     ShipTo      `json:"ship_to"`
}

// OrderLine is one line of a request.
type OrderLine struct {
	SKU         string `json:"sku" minLength:"1" maxLength:"64" doc:"1 to 64 bytes of UTF-8 without control characters" example:"85123A"`
	Description string `json:"description,omitempty" maxLength:"500"`
	Quantity    int64  `json:"quantity" minimum:"1" maximum:"1000000" example:"6"`
	UnitPrice   int64  `json:"unit_price" minimum:"0" maximum:"1000000000000" doc:"Minor units of the order's currency" example:"255"`
	Kind        string `json:"kind,omitempty" enum:"goods,charge" doc:"goods come from stock and are shipped (default); a charge is only paid"`
}

// PaymentBy says how a request is to be paid.
type PaymentBy struct {
	Method string `json:"method" minLength:"1" maxLength:"255" example:"card"`
	Token  string `json:"token" minLength:"1" maxLength:"255" example:"tok_ok"`
}

// ShipTo says where a request goes.
type ShipTo struct {
	Country    string `json:"country" doc:"ISO 3166-1 alpha-2" minLength:"2" maxLength:"2" example:"GB"`
	Region     string `json:"region,omitempty" maxLength:"500"`
	City       string `json:"city,omitempty" maxLength:"500"`
	PostalCode string `json:"postal_code,omitempty" maxLength:"500"`
	Address    string `json:"address,omitempty" maxLength:"500"`
}

// Problem is something wrong with a request, and where: a JSON pointer.
type Problem struct {
	Pointer string
	Detail  string
}

// Problems says everything that is wrong with the request; nil if it can be
// taken.
func (p *PlaceOrder) Problems() []Problem {
	var found []Problem
	check := func(err error, pointer string, args ...any) {
		if err != nil {
			found = append(found, Problem{fmt.Sprintf(pointer, args...), err.Error()})
		}
	}
	if p.OrderID != "" {
		check(shop.CheckID(p.OrderID), "/order_id")
	}
	check(shop.CheckID(p.CustomerID), "/customer_id")
	check(shop.CheckCurrency(p.Currency), "/currency")
	check(between(int64(len(p.Lines)), 1, shop.MaxLines, "lines"), "/lines")
	for i := range p.Lines {
		l := &p.Lines[i]
		check(shop.CheckSKU(l.SKU), "/lines/%d/sku", i)
		check(shop.CheckText(l.Description, shop.MaxText), "/lines/%d/description", i)
		check(between(l.Quantity, 1, shop.MaxQuantity, ""), "/lines/%d/quantity", i)
		check(between(l.UnitPrice, 0, shop.MaxUnitPrice, ""), "/lines/%d/unit_price", i)
		if l.Kind != "" && l.Kind != shop.Goods && l.Kind != shop.Charge {
			check(fmt.Errorf("must be %q or %q", shop.Goods, shop.Charge), "/lines/%d/kind", i)
		}
	}
	check(required(p.Payment.Method), "/payment/method")
	check(required(p.Payment.Token), "/payment/token")
	check(shop.CheckCountry(p.ShipTo.Country), "/ship_to/country")
	check(shop.CheckText(p.ShipTo.Region, shop.MaxText), "/ship_to/region")
	check(shop.CheckText(p.ShipTo.City, shop.MaxText), "/ship_to/city")
	check(shop.CheckText(p.ShipTo.PostalCode, shop.MaxText), "/ship_to/postal_code")
	check(shop.CheckText(p.ShipTo.Address, shop.MaxText), "/ship_to/address")
	if len(found) == 0 {
		if _, ok := p.total(); !ok {
			check(fmt.Errorf("the total must be below 2^53 minor units"), "/lines")
		}
	}
	return found
}

func between(n, least, most int64, what string) error {
	if n < least || n > most {
		return fmt.Errorf("must be %d to %d%s", least, most, strings.TrimRight(" "+what, " "))
	}
	return nil
}

func required(text string) error {
	if text == "" || len(text) > shop.MaxToken {
		return fmt.Errorf("must be 1 to %d bytes long", shop.MaxToken)
	}
	return shop.CheckText(text, shop.MaxToken)
}

// total adds up the lines; false if it is more than the shop counts. A line
// alone, at most 10^6 times 10^12, fits an int64.
func (p *PlaceOrder) total() (int64, bool) {
	var sum int64
	for i := range p.Lines {
		sum += p.Lines[i].Quantity * p.Lines[i].UnitPrice
		if sum > shop.MaxTotal {
			return 0, false
		}
	}
	return sum, true
}

// hash is of what the request says, whatever its JSON looked like.
func (p *PlaceOrder) hash() [32]byte { return hashOf(p) }

func hashOf(request any) [32]byte {
	data, err := json.Marshal(request)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", request, err)) // strings and numbers only: cannot fail
	}
	return sha256.Sum256(data)
}

// event is the order as everybody else learns of it; hash is the request's.
func (p *PlaceOrder) event(id string, hash [32]byte) shop.OrderCreated {
	total, _ := p.total()
	e := shop.OrderCreated{
		OrderID:     id,
		CustomerID:  p.CustomerID,
		Lines:       make([]shop.Line, len(p.Lines)),
		Total:       shop.Money{Amount: total, Currency: p.Currency},
		Payment:     shop.Payment(p.Payment),
		ShipTo:      shop.Address(p.ShipTo),
		Fingerprint: hex.EncodeToString(hash[:16]), // 128 bits: nobody meets another's by chance
	}
	for i, l := range p.Lines {
		e.Lines[i] = shop.Line(l)
		if l.Kind == "" {
			e.Lines[i].Kind = shop.Goods
		}
	}
	return e
}

// idFrom derives an order's id from an idempotency key: the same key gives the
// same order even after the answer recorded for it is forgotten.
func idFrom(key string) string {
	sum := sha256.Sum256([]byte(key))
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}
