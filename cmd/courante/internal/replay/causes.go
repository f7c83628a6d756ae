package replay

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Cause says why a line was not accepted. It is a stable name for programs;
// [Cause.Says] is the sentence for people.
type Cause string

// Why the replay itself refuses a line.
const (
	damagedColumns Cause = "damaged_columns"
	damagedText    Cause = "damaged_text"
	damagedNumber  Cause = "damaged_number"
	damagedTime    Cause = "damaged_time"
	damagedRecord  Cause = "damaged_record"

	badInvoice      Cause = "invoice_is_no_id"
	badSKU          Cause = "stock_code_is_no_sku"
	badDescription  Cause = "description_too_long"
	badCustomer     Cause = "customer_is_no_id"
	unknownCountry  Cause = "unknown_country"
	badDebt         Cause = "bad_debt_adjustment"
	zeroQuantity    Cause = "quantity_zero"
	largeQuantity   Cause = "quantity_too_large"
	negativePrice   Cause = "price_negative"
	finePrice       Cause = "price_finer_than_a_penny"
	largePrice      Cause = "price_too_large"
	positiveReturn  Cause = "return_of_positive_quantity"
	chargeReturned  Cause = "return_of_a_charge"
	negativeCharge  Cause = "charge_of_negative_quantity"
	guestReturn     Cause = "return_without_customer"
	tooManyLines    Cause = "order_of_too_many_lines"
	otherCustomer   Cause = "another_customer_on_the_invoice"
	neverBought     Cause = "return_of_something_never_bought"
	alreadyReturned Cause = "return_of_more_than_was_bought"
	orderCancelled  Cause = "return_for_a_cancelled_order"
	orderAbsent     Cause = "order_does_not_exist"
	orderDoesNotEnd Cause = "return_for_an_order_that_does_not_end"
)

var sentences = map[Cause]string{
	damagedColumns:  "damaged: not 8 columns",
	damagedText:     "damaged: not UTF-8, or a NUL",
	damagedNumber:   "damaged: a number that is none",
	damagedTime:     "damaged: a time that is none",
	damagedRecord:   "damaged: not one record of the contract",
	badInvoice:      "the invoice number is no id",
	badSKU:          "the stock code is no SKU",
	badDescription:  "the description is too long or has control characters",
	badCustomer:     "the customer number is no id",
	unknownCountry:  "no such country",
	badDebt:         "bad debt (invoice A...) is no order",
	zeroQuantity:    "quantity 0",
	largeQuantity:   "quantity above 1,000,000",
	negativePrice:   "negative price",
	finePrice:       "price finer than a penny",
	largePrice:      "price too large",
	positiveReturn:  "a return (invoice C...) of a positive quantity",
	chargeReturned:  "a charge on a return: nothing comes back",
	negativeCharge:  "a charge of negative quantity: no stock to correct",
	guestReturn:     "a return without a customer: nothing to match",
	tooManyLines:    "more than 2,000 lines in one order",
	otherCustomer:   "another customer than the rest of the invoice",
	neverBought:     "a return of what the customer did not buy before",
	alreadyReturned: "a return of what is already returned",
	orderCancelled:  "a return for an order that was cancelled",
	orderAbsent:     "there is no such order",
	orderDoesNotEnd: "a return for an order that does not end",
}

// refusedBy is the cause of what the system refused: what was sent, and the
// status of the answer.
func refusedBy(what string, status int) Cause {
	return Cause(fmt.Sprintf("%s_%d", what, status))
}

// Says is the cause as people read it.
func (c Cause) Says() string {
	if s, ok := sentences[c]; ok {
		return s
	}
	i := strings.LastIndexByte(string(c), '_')
	status, err := strconv.Atoi(string(c[i+1:]))
	if err != nil {
		return string(c)
	}
	return fmt.Sprintf("the system refused the %s: %d %s", c[:i], status, strings.ToLower(http.StatusText(status)))
}

// Damaged reports whether the file is at fault and not what it says.
func (c Cause) Damaged() bool { return strings.HasPrefix(string(c), "damaged_") }
