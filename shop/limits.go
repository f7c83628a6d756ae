package shop

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what the shop accepts.
const (
	MaxLines       = 2_000             // lines of one order
	MaxQuantity    = 1_000_000         // of one line
	MaxUnitPrice   = 1_000_000_000_000 // minor units
	MaxTotal       = 1<<53 - 1         // minor units; what every JSON reader keeps exactly
	MaxStock       = 1<<53 - 1         // pieces of one SKU on hand
	MaxStockChange = 1_000_000_000     // pieces in one receipt or adjustment
	MaxSKU         = 64                // bytes
	MaxText        = 500               // characters of a description, a reason or a field of an address
	MaxToken       = 255               // bytes of a payment token or method
)

// Kinds of order lines.
const (
	Goods  = "goods"  // comes from stock and is shipped
	Charge = "charge" // is only paid: postage, a fee
)

// CheckID says what is wrong with the id of an order or a customer: it is
// [A-Za-z0-9][A-Za-z0-9._:-]{0,63}.
func CheckID(id string) error {
	if id == "" || len(id) > 64 {
		return fmt.Errorf("must be 1 to 64 characters long")
	}
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._:-", rune(c))) {
			return fmt.Errorf("must be letters and digits, and after the first also . _ : -")
		}
	}
	return nil
}

// CheckSKU says what is wrong with the id of a product: it is 1 to 64 bytes of
// UTF-8 without control characters.
func CheckSKU(sku string) error {
	if sku == "" || len(sku) > MaxSKU {
		return fmt.Errorf("must be 1 to %d bytes long", MaxSKU)
	}
	if !utf8.ValidString(sku) {
		return fmt.Errorf("must be UTF-8")
	}
	if strings.ContainsFunc(sku, unicode.IsControl) {
		return fmt.Errorf("must not contain control characters")
	}
	return nil
}

// CheckText says what is wrong with a text that people write: at most max
// characters of UTF-8, and no control characters but tab and line ends.
func CheckText(text string, max int) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("must be UTF-8")
	}
	if utf8.RuneCountInString(text) > max {
		return fmt.Errorf("must be at most %d characters long", max)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) }) {
		return fmt.Errorf("must not contain control characters")
	}
	return nil
}
