package replay

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Report is what became of a replay.
type Report struct {
	File     string  `json:"file"`
	Format   string  `json:"format"`
	SHA256   string  `json:"sha256"` // of the text, decompressed
	URL      string  `json:"url"`
	Complete bool    `json:"complete"`
	Seconds  float64 `json:"seconds"`

	// Lines are all that the file has; what follows adds up to them. Merged are
	// records that place an order a second time. Equal lines of an invoice stay
	// lines of their own.
	Lines       int            `json:"lines"`
	Accepted    map[string]int `json:"accepted"`
	Refused     []Refused      `json:"refused"`
	Merged      int            `json:"merged"`
	BeyondLimit int            `json:"beyond_limit"`
	NotReached  int            `json:"not_reached"`

	Orders  Orders  `json:"orders"`
	Returns Returns `json:"returns"`
	Stocked int64   `json:"stocked_skus"` // received before the first order

	CreatedToConfirmed Latency `json:"created_to_confirmed"`
	LinesPerS          float64 `json:"lines_per_s"`
	OrdersPerS         float64 `json:"orders_per_s"`
	Repeated           int64   `json:"repeated_requests"` // the system could not answer
	Checks             string  `json:"checks"`            // "ok", or what is wrong
}

// Orders are what became of the orders.
type Orders struct {
	Placed   int            `json:"placed"`
	Refused  int64          `json:"refused"`
	ByStatus map[string]int `json:"by_status"`
	NotEnded []string       `json:"not_ended"` // some of those that did not end
}

// Latency is how long orders took, by the times in their timelines.
type Latency struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
}

// someOrders is how many orders a report names.
const someOrders = 5

func (e *engine) report(cfg Config, o *outline, took time.Duration, complete bool) *Report {
	r := &Report{
		File: cfg.File, Format: string(o.format), SHA256: o.hash, URL: cfg.URL,
		Complete: complete, Seconds: took.Seconds(), Lines: o.lines,
		Stocked: e.stocked.Load(), Repeated: e.client.repeated.Load(),
	}
	e.account.report(r)
	e.watcher.report(r)
	r.Orders.Refused = e.ordersRefused.Load()
	if r.Seconds > 0 {
		r.LinesPerS = float64(r.Lines-r.NotReached-r.BeyondLimit) / r.Seconds
		r.OrdersPerS = float64(r.Orders.Placed) / r.Seconds
	}
	r.Checks = r.check()
	return r
}

// check looks whether what is reported can be true.
func (r *Report) check() string {
	var problems []string
	sum := r.Merged + r.BeyondLimit + r.NotReached
	for _, n := range r.Accepted {
		sum += n
	}
	damaged := 0
	first := 0
	for _, refused := range r.Refused {
		sum += refused.Lines
		if refused.Cause.Damaged() {
			damaged += refused.Lines
			if first == 0 || refused.First < first {
				first = refused.First
			}
		}
	}
	if sum != r.Lines || r.NotReached < 0 || r.Complete && r.NotReached > 0 {
		problems = append(problems, fmt.Sprintf("%d lines are accounted for, of %d", sum-r.NotReached, r.Lines))
	}
	if !r.Complete {
		problems = append(problems, "not complete")
	}
	if damaged > 0 {
		problems = append(problems, fmt.Sprintf("damaged lines: %d, the first is line %d", damaged, first))
	}
	if r.Complete && len(r.Orders.NotEnded) > 0 {
		problems = append(problems, "orders did not end: "+strings.Join(r.Orders.NotEnded, ", "))
	}
	if len(problems) > 0 {
		return strings.Join(problems, "; ")
	}
	return "ok"
}

func (w *watcher) report(r *Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Orders.ByStatus = map[string]int{}
	r.Orders.NotEnded = []string{}
	var took []time.Duration
	for _, o := range w.all {
		if !o.ours {
			continue
		}
		r.Orders.Placed++
		if o.status == "" {
			o.status = "created" // not looked at before an interrupt
		}
		r.Orders.ByStatus[o.status]++
		if o.took > 0 {
			took = append(took, o.took)
		}
		if (o.given || !final(o.status)) && len(r.Orders.NotEnded) < someOrders {
			r.Orders.NotEnded = append(r.Orders.NotEnded, o.id)
		}
	}
	slices.Sort(took)
	slices.Sort(r.Orders.NotEnded)
	r.CreatedToConfirmed = Latency{N: len(took), P50: quantile(took, 0.50), P95: quantile(took, 0.95), P99: quantile(took, 0.99)}
}

// quantile is the nearest rank of sorted durations, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[rank].Microseconds()) / 1000
}

// Progress is how far a replay is.
type Progress struct {
	Lines    int   // accounted for, of
	Total    int   // what the limit lets in
	Stocked  int64 // SKUs received before the first order, of
	ToStock  int64
	Orders   int64 // asked for
	UnderWay int   // orders that have not ended
	Refused  int   // lines
	Repeated int64 // requests
	Elapsed  time.Duration
	Trouble  string // why a request was repeated in the last seconds
}

// tellEvery is how often somebody who looks on is told.
const tellEvery = 250 * time.Millisecond

// tell reports progress until the returned function is called.
func (e *engine) tell(hear func(Progress), o *outline, begun time.Time) (stop func()) {
	if hear == nil {
		return func() {}
	}
	end := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for {
			hear(e.progress(o, begun))
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	})
	return func() { close(end); told.Wait() }
}

func (e *engine) progress(o *outline, begun time.Time) Progress {
	p := Progress{
		Total: o.within, Stocked: e.stocked.Load(), ToStock: e.toStock.Load(), Orders: e.orders.Load(), Repeated: e.client.repeated.Load(),
		Elapsed: time.Since(begun), Trouble: e.trouble.recent(),
	}
	p.Lines, p.Refused = e.account.count()
	p.UnderWay = e.watcher.underWay()
	return p
}

func (w *watcher) underWay() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// trouble remembers the last failure for those who look on.
type trouble struct {
	mu   sync.Mutex // guards both below
	text string
	at   time.Time
}

func (t *trouble) set(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text, t.at = err.Error(), time.Now()
}

// recent is the last failure, unless it is over.
func (t *trouble) recent() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > 3*time.Second {
		return ""
	}
	return t.text
}
