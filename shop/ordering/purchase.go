package ordering

import (
	"context"
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// purchase is the lines of an order, which never change. Decisions do without
// them but for a return, so that an order of 2,000 lines does not carry them
// through each of its steps.
type purchase struct {
	lines []shop.Line
	bySKU map[string][]int // lines counted from 1, the newest first
}

// purchase reads the lines from the event that placed the order.
func (c *Context) purchase(ctx context.Context, id string) (*purchase, error) {
	first, err := c.orders.Event(ctx, id, 1)
	if errors.Is(err, courante.ErrNotFound) {
		return nil, courante.Reject("not_found", "there is no order %q", id)
	}
	if err != nil {
		return nil, err
	}
	created, err := courante.Decode[shop.OrderCreated](&first)
	if err != nil {
		return nil, err
	}
	p := &purchase{lines: created.Lines, bySKU: map[string][]int{}}
	for n := len(p.lines); n > 0; n-- {
		sku := p.lines[n-1].SKU
		p.bySKU[sku] = append(p.bySKU[sku], n)
	}
	return p, nil
}

// take says which lines a return is of, when so much of each was returned
// before. What is asked for is served in the order asked, each line of the
// order is named at most once, and nothing is taken if there is a problem.
func (p *purchase) take(before map[int]int64, asked []ReturnLine) ([]shop.ReturnedLine, []Problem) {
	var problems []Problem
	taken := make([]int64, len(p.lines)+1)
	for i, want := range asked {
		from, name, place := p.bySKU[want.SKU], fmt.Sprintf("%q", want.SKU), "sku"
		if want.Line != 0 {
			from, name, place = nil, fmt.Sprintf("line %d", want.Line), "line"
			if want.Line <= len(p.lines) {
				from = []int{want.Line}
			}
		}
		if len(from) == 0 {
			problems = append(problems, Problem{fmt.Sprintf("/lines/%d/%s", i, place), "the order has no " + name})
			continue
		}
		missing := want.Quantity
		for _, n := range from {
			q := min(missing, p.lines[n-1].Quantity-before[n]-taken[n])
			taken[n] += q
			missing -= q
		}
		if missing > 0 {
			problems = append(problems, Problem{
				fmt.Sprintf("/lines/%d/quantity", i),
				fmt.Sprintf("of %s only %d can still be returned", name, want.Quantity-missing),
			})
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	var lines []shop.ReturnedLine
	for i, l := range p.lines {
		if n := i + 1; taken[n] > 0 {
			lines = append(lines, shop.ReturnedLine{Line: n, SKU: l.SKU, Kind: l.Kind, Quantity: taken[n], UnitPrice: l.UnitPrice})
		}
	}
	return lines, nil
}

// goodsLeft counts the pieces of goods that the customer keeps.
func (p *purchase) goodsLeft(before map[int]int64, now []shop.ReturnedLine) int64 {
	var left int64
	for i, l := range p.lines {
		if l.Kind == shop.Goods {
			left += l.Quantity - before[i+1]
		}
	}
	for _, l := range now {
		if l.Kind == shop.Goods {
			left -= l.Quantity
		}
	}
	return left
}
