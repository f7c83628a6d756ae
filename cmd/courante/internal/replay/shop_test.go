package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// theShop is the other side of the API, in memory and without a socket: what
// the contract says about orders, returns, stock and keys, and no saga.
type theShop struct {
	t  *testing.T
	mu sync.Mutex // guards all below

	orders map[string]*shopOrder
	stock  map[string]int64
	first  map[string]said // the first answer of each key, with its body
	sent   []string        // what was done, in order; repetitions are not
	calls  int

	// before is asked ahead of each request; a response ends it there, an error
	// cuts the connection. after the same, when the request was done.
	before, after func(r *http.Request) (*http.Response, error)

	routes *http.ServeMux
}

type shopOrder struct {
	order
	body     []byte
	status   string
	looks    int // until it has ended
	created  time.Time
	returned map[int]int64
}

type said struct {
	body   string
	status int
	answer []byte
}

func newShop(t *testing.T) *theShop {
	s := &theShop{t: t, orders: map[string]*shopOrder{}, stock: map[string]int64{}, first: map[string]said{}, routes: http.NewServeMux()}
	s.routes.HandleFunc("GET /v1/orders/{id}", s.get)
	for pattern, do := range map[string]func(r *http.Request, body []byte) (int, any){
		"POST /v1/orders":                      s.place,
		"POST /v1/orders/{id}/cancel":          s.cancel,
		"POST /v1/orders/{id}/returns":         s.giveBack,
		"POST /v1/inventory/{sku}/receipts":    s.receive,
		"POST /v1/inventory/{sku}/adjustments": s.adjust,
	} {
		s.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.once(w, r, do) })
	}
	return s
}

// client calls the shop.
func (s *theShop) client() *http.Client { return &http.Client{Transport: s} }

var errCut = errors.New("connection reset")

// RoundTrip answers a request.
func (s *theShop) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if s.before != nil {
		if res, err := s.before(r); res != nil || err != nil {
			return res, err
		}
	}
	w := httptest.NewRecorder()
	s.routes.ServeHTTP(w, r)
	if s.after != nil {
		if res, err := s.after(r); res != nil || err != nil {
			return res, err
		}
	}
	return w.Result(), nil
}

// once does what was not done under this key before.
func (s *theShop) once(w http.ResponseWriter, r *http.Request, do func(*http.Request, []byte) (int, any)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" || r.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("%s %s without a key or a type", r.Method, r.URL.Path)
	}
	key = r.URL.Path + " " + key
	if have, ok := s.first[key]; ok {
		if have.body != string(body) {
			s.t.Errorf("%s: another body for the same key: %s, before %s", key, body, have.body)
		}
		w.WriteHeader(have.status)
		_, _ = w.Write(have.answer)
		return
	}
	status, v := do(r, body)
	answer, err := json.Marshal(v)
	if err != nil {
		s.t.Error(err)
	}
	if status < 300 {
		s.first[key] = said{string(body), status, answer}
		s.sent = append(s.sent, r.URL.Path+" "+string(body))
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func problem(status int, detail string) (int, any) {
	return status, map[string]any{"status": status, "detail": detail}
}

func (s *theShop) place(_ *http.Request, body []byte) (int, any) {
	o := &shopOrder{status: "created", returned: map[int]int64{}, looks: 1, created: time.Now()}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o.order); err != nil {
		return problem(400, err.Error())
	}
	if o.OrderID == "" {
		o.OrderID = "chosen-" + strconv.Itoa(len(s.orders))
	}
	if have := s.orders[o.OrderID]; have != nil {
		if bytes.Equal(have.body, body) {
			return 201, map[string]any{"order_id": o.OrderID, "token": "t"}
		}
		return problem(409, "there is another order with this id")
	}
	o.body, o.status = body, "confirmed"
	for _, l := range o.Lines {
		if l.Kind != chargeKind && s.stock[l.SKU] < l.Quantity {
			o.status = "cancelled"
		}
	}
	for _, l := range o.Lines {
		if l.Kind != chargeKind && o.status == "confirmed" {
			s.stock[l.SKU] -= l.Quantity
		}
	}
	s.orders[o.OrderID] = o
	return 201, map[string]any{"order_id": o.OrderID, "token": "t"}
}

// get shows an order on its way for some looks, then its end.
func (s *theShop) get(w http.ResponseWriter, r *http.Request) {
	o := s.orders[r.PathValue("id")]
	if o == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	v := map[string]any{"order_id": o.OrderID, "status": "paid", "version": 1, "lines": []any{},
		"timeline": []any{map[string]any{"type": "shop.order_created", "at": o.created}}}
	if o.looks--; o.looks < 0 {
		v["status"] = o.status
		v["timeline"] = append(v["timeline"].([]any), map[string]any{"type": "shop.order_confirmed", "at": o.created.Add(250 * time.Millisecond)})
		var lines []any
		for i, l := range o.Lines {
			lines = append(lines, map[string]any{"kind": l.Kind, "quantity": l.Quantity, "returned_quantity": o.returned[i+1]})
		}
		v["lines"] = lines
	}
	_ = json.NewEncoder(w).Encode(v)
}

func (s *theShop) cancel(r *http.Request, _ []byte) (int, any) {
	o := s.orders[r.PathValue("id")]
	switch {
	case o == nil:
		return problem(404, "there is no such thing")
	case o.looks < 0:
		return problem(409, "it is shipped")
	}
	o.status = "cancelled"
	return 202, map[string]any{}
}

func (s *theShop) giveBack(r *http.Request, body []byte) (int, any) {
	o := s.orders[r.PathValue("id")]
	if o == nil || o.looks >= 0 || o.status == "cancelled" {
		return problem(409, "the order is not confirmed")
	}
	var wanted returned
	if err := json.Unmarshal(body, &wanted); err != nil {
		return problem(400, err.Error())
	}
	seen := map[int]bool{}
	for _, l := range wanted.Lines {
		if l.Line < 1 || l.Line > len(o.Lines) || seen[l.Line] || l.Quantity < 1 || o.returned[l.Line]+l.Quantity > o.Lines[l.Line-1].Quantity {
			return problem(422, fmt.Sprintf("line %d cannot be returned", l.Line))
		}
		seen[l.Line] = true
	}
	back := true
	for _, l := range wanted.Lines {
		o.returned[l.Line] += l.Quantity
		s.stock[o.Lines[l.Line-1].SKU] += l.Quantity
	}
	for i, l := range o.Lines {
		back = back && (l.Kind == chargeKind || o.returned[i+1] == l.Quantity)
	}
	if back {
		o.status, o.looks = "returned", 0
	}
	return 202, map[string]any{"return_id": "r"}
}

func (s *theShop) receive(r *http.Request, body []byte) (int, any) {
	var b struct{ Quantity int64 }
	if err := json.Unmarshal(body, &b); err != nil || b.Quantity < 1 {
		return problem(422, "quantity")
	}
	s.stock[r.PathValue("sku")] += b.Quantity
	return 201, map[string]any{}
}

func (s *theShop) adjust(r *http.Request, body []byte) (int, any) {
	var b struct {
		Quantity int64
		Reason   string
	}
	if err := json.Unmarshal(body, &b); err != nil || b.Reason == "" {
		return problem(422, "reason")
	}
	have, known := s.stock[r.PathValue("sku")]
	switch {
	case !known:
		return problem(404, "there is no SKU "+r.PathValue("sku"))
	case have+b.Quantity < 0:
		return problem(409, "less than is reserved would be left")
	}
	s.stock[r.PathValue("sku")] += b.Quantity
	return 201, map[string]any{}
}

// order returns what the shop has of an order.
func (s *theShop) order(id string) *shopOrder {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[id]
	if o == nil {
		s.t.Fatalf("there is no order %s", id)
	}
	return o
}
