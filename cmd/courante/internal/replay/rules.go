package replay

import (
	"strconv"
	"strings"

	"github.com/courante-dev/courante/shop"
)

// judge decides what a line of the file asks for, or why it is refused. It
// looks at the line alone; docs/replay.md has the rules in words.
func (r *row) judge() {
	r.kind, r.cause = r.verdict()
	if r.cause != "" {
		r.kind = refusedLine
	}
}

func (r *row) verdict() (kind, Cause) {
	switch {
	case shop.CheckID(r.invoice) != nil:
		return 0, badInvoice
	case marked(r.invoice, 'A'):
		return 0, badDebt
	case shop.CheckSKU(r.sku) != nil:
		return 0, badSKU
	case shop.CheckText(r.description, shop.MaxText) != nil:
		return 0, badDescription
	case r.customer != "" && shop.CheckID(r.customer) != nil, r.customer == "" && shop.CheckID(r.buyer()) != nil:
		return 0, badCustomer
	case r.quantity == 0:
		return 0, zeroQuantity
	case marked(r.invoice, 'C'):
		return r.returned()
	case r.quantity < 0:
		return r.adjusted()
	}
	return r.ordered()
}

// marked reports whether an invoice number is a letter before the number.
func marked(invoice string, letter byte) bool {
	return invoice[0] == letter || invoice[0] == letter+'a'-'A'
}

// goods reports whether a stock code is a product's: five digits and then
// nothing but letters, such as 71053, 85123A or 15056BL. All others are
// charges: postage, fees, discounts, vouchers, samples.
func goods(sku string) bool {
	if len(sku) < 5 {
		return false
	}
	for i := range len(sku) {
		digit, letter := sku[i] >= '0' && sku[i] <= '9', sku[i]|0x20 >= 'a' && sku[i]|0x20 <= 'z'
		if i < 5 && !digit || i >= 5 && !letter {
			return false
		}
	}
	return true
}

func (r *row) returned() (kind, Cause) {
	switch {
	case r.quantity > 0:
		return 0, positiveReturn
	case !goods(r.sku):
		return 0, chargeReturned
	case r.customer == "":
		return 0, guestReturn
	}
	return returnLine, ""
}

// adjusted is a line of negative quantity that is no return: somebody wrote
// stock off. Its price means nothing.
func (r *row) adjusted() (kind, Cause) {
	if !goods(r.sku) {
		return 0, negativeCharge
	}
	if r.quantity < -shop.MaxStockChange {
		return 0, largeQuantity
	}
	return adjustmentLine, ""
}

func (r *row) ordered() (kind, Cause) {
	minor, cause := minorUnits(r.price)
	switch {
	case cause != "":
		return 0, cause
	case minor < 0:
		return 0, negativePrice
	case minor > shop.MaxUnitPrice:
		return 0, largePrice
	case r.quantity > shop.MaxQuantity:
		return 0, largeQuantity
	case countries[r.country] == "":
		return 0, unknownCountry
	}
	r.minor = minor
	if !goods(r.sku) {
		return chargeLine, ""
	}
	return goodsLine, ""
}

// buyer is the customer of an order: without a number, a guest of that invoice.
func (r *row) buyer() string {
	if r.customer == "" {
		return "guest-" + r.invoice
	}
	return r.customer
}

// reason is why stock was corrected. Most write-offs have none.
func (r *row) reason() string {
	if r.description == "" {
		return "no reason given"
	}
	return r.description
}

// minorUnits reads a decimal price as pence, exactly: "2.5" is 250. A price
// between two pence is not rounded: nobody could say who pays the difference.
func minorUnits(price string) (int64, Cause) {
	digits, negative := strings.CutPrefix(price, "-")
	pounds, pence, _ := strings.Cut(digits, ".")
	pence = strings.TrimRight(pence, "0")
	fine := len(pence) > 2
	for len(pence) < 2 {
		pence += "0"
	}
	n, err := strconv.ParseUint(pounds+pence, 10, 63)
	switch {
	case err != nil && len(digits) > 18 && strings.Trim(digits, "0123456789.") == "":
		return 0, largePrice
	case err != nil || pounds == "":
		return 0, damagedNumber
	case fine && negative:
		return 0, negativePrice
	case fine:
		return 0, finePrice
	case negative:
		return -int64(n), ""
	}
	return int64(n), ""
}
