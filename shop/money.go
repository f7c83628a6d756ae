package shop

import (
	"fmt"
	"strings"
)

// Money is an amount in minor units (pence, cents, yen) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// Currencies whose minor unit is not a hundredth (ISO 4217, table A.1).
const (
	withoutMinorUnit = " BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF "
	withThreeDigits  = " BHD IQD JOD KWD LYD OMR TND "
)

// String writes the money for people, in major units: "12.50 GBP", "300 JPY".
func (m Money) String() string {
	digits := 2
	switch code := " " + m.Currency + " "; {
	case strings.Contains(withoutMinorUnit, code):
		digits = 0
	case strings.Contains(withThreeDigits, code):
		digits = 3
	}
	sign, amount := "", uint64(m.Amount)
	if m.Amount < 0 {
		sign, amount = "-", -amount
	}
	if digits == 0 {
		return fmt.Sprintf("%s%d %s", sign, amount, m.Currency)
	}
	unit := uint64(100)
	if digits == 3 {
		unit = 1000
	}
	return fmt.Sprintf("%s%d.%0*d %s", sign, amount/unit, digits, amount%unit, m.Currency)
}
