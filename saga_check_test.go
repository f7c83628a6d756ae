package courante

import (
	"testing"
	"time"
)

func TestTheOrderSagaPasses(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(orderSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r := g.Check(0)
	t.Logf("%d steps, %d states in %s", len(g.Steps), r.States, time.Since(start))
	if !r.Complete {
		t.Errorf("the bound was hit at %d states", r.States)
	}
	for _, p := range r.Problems {
		t.Errorf("unexpected %s", p)
	}
}
