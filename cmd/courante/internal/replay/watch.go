package replay

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Looks at an order that is on its way.
const (
	firstLook = 50 * time.Millisecond // before anything is known about this system's speed
	leastLook = 20 * time.Millisecond
	mostLook  = 3 * time.Second
)

// holdsPlace is how long an order that does not end counts as under way. After
// that its place is given to another: the stuck ones must not stop the rest.
const holdsPlace = time.Minute

// watch follows one order to its end.
type watch struct {
	id    string
	ours  bool          // the system has answered 201: it is there
	ended chan struct{} // closed when status is final, or it was given up

	// Below is set before ended is closed, and by [watcher.settle] after it.
	status string
	took   time.Duration // created to confirmed; 0 if it was not
	given  bool          // given up: it does not end
	back   bool          // something of it was returned
}

// absent is the status of an order that the system does not know.
const absent = "absent"

// final reports whether an order with this status goes on by itself.
func final(status string) bool {
	return status == "confirmed" || status == "cancelled" || status == "returned" || status == absent
}

// watcher follows orders until they have ended. Each has a goroutine; the
// number of orders under way is bounded by who starts them.
type watcher struct {
	client *client

	mu      sync.Mutex // guards all below
	all     map[string]*watch
	typical time.Duration // how long orders take these days, smoothed
	open    int           // orders that have not ended
}

func newWatcher(c *client) *watcher {
	return &watcher{client: c, all: map[string]*watch{}, typical: firstLook}
}

// known is what the watcher knew of an order before.
type known int

const (
	newOrder   known = iota
	foundOrder       // a return has named it
	ownOrder         // it was placed by this replay
)

// add returns the watch of an order; who gets a new one has to follow it.
func (w *watcher) add(id string, ours bool) (*watch, known) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.all[id]
	switch {
	case o == nil:
		o = &watch{id: id, ours: ours, ended: make(chan struct{})}
		w.all[id] = o
		w.open++
		return o, newOrder
	case o.ours:
		return o, ownOrder
	}
	o.ours = ours
	return o, foundOrder
}

// forget drops the watch of an order that does not exist: it may come later.
func (w *watcher) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, id)
}

// view is an order as the system shows it, as far as the replay looks.
type view struct {
	Status  string `json:"status"`
	Version int64  `json:"version"`
	Lines   []struct {
		Kind             string `json:"kind"`
		Quantity         int64  `json:"quantity"`
		ReturnedQuantity int64  `json:"returned_quantity"`
	} `json:"lines"`
	Timeline []struct {
		Type string    `json:"type"`
		At   time.Time `json:"at"`
	} `json:"timeline"`
}

// follow looks at the order until it has ended, or has not changed for as long
// as the client has patience while the system did answer. giveUp is called
// once, when the order has ended or is not waited for any more. After an error,
// which ends the replay, the order does not count as ended.
func (w *watcher) follow(ctx context.Context, o *watch, token string, giveUp func()) error {
	release := sync.OnceFunc(giveUp)
	defer release()
	began := time.Now()
	var version int64
	var unchanged time.Duration
	for look := w.usual(); ; look = min(max(time.Since(began)/2, leastLook), mostLook) {
		if err := sleep(ctx, look); err != nil {
			return err
		}
		v, found, err := w.get(ctx, o.id, token)
		if err != nil {
			return err
		}
		token = "" // what was seen once is not older the next time
		if !found && !o.ours {
			o.status = absent
			w.end(o)
			return nil
		}
		if found {
			o.status = v.Status
		}
		if found && final(v.Status) {
			o.took = v.took()
			w.learn(time.Since(began))
			w.end(o)
			return nil
		}
		if time.Since(began) > holdsPlace {
			release()
		}
		if unchanged += look; v.Version != version {
			version, unchanged = v.Version, 0
		}
		if unchanged > w.client.patience {
			o.given = true
			w.end(o)
			return nil
		}
	}
}

// get reads an order. It is not found while the system is not as fresh as the
// token asks for.
func (w *watcher) get(ctx context.Context, id, token string) (v view, found bool, err error) {
	a, err := w.client.do(ctx, request{method: http.MethodGet, path: "/v1/orders/" + url.PathEscape(id), token: token})
	if err != nil || a.status != http.StatusOK {
		return view{}, false, err
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		return view{}, false, err
	}
	return v, true, nil
}

// took is how long the order took from created to confirmed, by its timeline.
func (v *view) took() time.Duration {
	var created time.Time
	for _, m := range v.Timeline {
		switch m.Type {
		case "shop.order_created":
			created = m.At
		case "shop.order_confirmed":
			return m.At.Sub(created)
		}
	}
	return 0
}

func (w *watcher) end(o *watch) {
	close(o.ended)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
}

// usual is when it is worth to look at a new order for the first time.
func (w *watcher) usual() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(max(w.typical, leastLook), mostLook)
}

func (w *watcher) learn(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.typical += (took - w.typical) / 16
}

// returned notes that something of the order is given back: its status may
// change once more.
func (w *watcher) returned(o *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.back = true
}

// settle looks once more at the orders of which something was returned, and
// waits for those of which everything was.
func (w *watcher) settle(ctx context.Context) error {
	var group sync.WaitGroup
	var errs = make(chan error, 1)
	for _, o := range w.all {
		if !o.back {
			continue
		}
		group.Go(func() {
			if err := w.settleOne(ctx, o); err != nil {
				select {
				case errs <- err:
				default: // one of them is enough
				}
			}
		})
	}
	group.Wait()
	close(errs)
	return <-errs
}

func (w *watcher) settleOne(ctx context.Context, o *watch) error {
	var waited time.Duration
	for look := leastLook; ; look = min(2*look, mostLook) {
		v, found, err := w.get(ctx, o.id, "")
		if err != nil {
			return err
		}
		if found {
			o.status = v.Status
			if v.Status != "confirmed" || !v.allBack() {
				return nil
			}
		}
		if waited > w.client.patience {
			o.given = true
			return nil
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
		waited += look
	}
}

// allBack reports whether all goods of the order are returned, so that its
// status is going to be "returned".
func (v *view) allBack() bool {
	goods := false
	for _, l := range v.Lines {
		if l.Kind != goodsKind {
			continue
		}
		goods = true
		if l.ReturnedQuantity < l.Quantity {
			return false
		}
	}
	return goods
}
