package replay

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/courante-dev/courante/shop"
)

// receive puts goods on the shelf before the orders come. The key has the
// quantity in it: another quantity is another receipt.
func (e *engine) receive(ctx context.Context, each *int64, o *outline) error {
	if each == nil && o.format == ndjson || each != nil && *each == 0 {
		return nil
	}
	e.toStock.Store(int64(len(o.demand)))
	var group sync.WaitGroup
	// As many goroutines as requests at once, not as SKUs.
	skus := make(chan string)
	for range cap(e.client.slots) {
		group.Go(func() {
			for sku := range skus {
				quantity := o.demand[sku]
				if each != nil {
					quantity = *each
				}
				if err := e.receiveOne(ctx, sku, min(quantity, shop.MaxStockChange)); err != nil {
					e.stop(err)
				}
			}
		})
	}
	for sku := range o.demand {
		select {
		case skus <- sku:
		case <-ctx.Done():
		}
	}
	close(skus)
	group.Wait()
	return ctx.Err()
}

func (e *engine) receiveOne(ctx context.Context, sku string, quantity int64) error {
	a, err := e.client.do(ctx, request{
		method: http.MethodPost, path: "/v1/inventory/" + url.PathEscape(sku) + "/receipts",
		key: fmt.Sprintf("%s.stock.%d", e.hash[:32], quantity), body: fmt.Appendf(nil, `{"quantity":%d}`, quantity),
	})
	if err != nil {
		return err
	}
	if !a.ok() {
		return fmt.Errorf("receive %d of %q: %s", quantity, sku, a.says())
	}
	e.stocked.Add(1)
	return nil
}
