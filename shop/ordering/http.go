package ordering

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante/shop"
)

func (c *Context) routes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "place-order", Method: http.MethodPost, Path: "/v1/orders", DefaultStatus: http.StatusCreated,
		Summary: "Place an order", Tags: []string{"orders"}, Errors: []int{http.StatusConflict},
		Description: "The same order_id with the same body gets the first answer again; with another body 409.",
	}, c.postOrder)
	huma.Register(api, huma.Operation{
		OperationID: "get-order", Method: http.MethodGet, Path: "/v1/orders/{id}",
		Summary: "An order with its timeline", Tags: []string{"orders"}, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, c.getOrder)
	huma.Register(api, huma.Operation{
		OperationID: "cancel-order", Method: http.MethodPost, Path: "/v1/orders/{id}/cancel", DefaultStatus: http.StatusAccepted,
		Summary: "Cancel an order that has not been shipped", Tags: []string{"orders"}, Errors: []int{http.StatusNotFound, http.StatusConflict},
		Description: "202 the first time, 200 if it was being cancelled already, 409 after shipping.",
		Responses: map[string]*huma.Response{"200": {
			Description: "It was being cancelled already",
			Headers:     map[string]*huma.Param{"Courante-Token": {Schema: &huma.Schema{Type: huma.TypeString}}},
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Cancellation](), true, ""),
			}},
		}},
	}, c.postCancel)
	c.listRoutes(api)
	c.returnRoutes(api)
	c.watchRoutes(api)
}

type postOrderRequest struct {
	Key  string `header:"Idempotency-Key" pattern:"^[!-~]{1,255}$" patternDescription:"1 to 255 visible ASCII characters" doc:"The same key with the same body gets the first answer again; with another body 422"`
	Body PlaceOrder
}

// Resolve adds to the checks of the schema what it cannot express.
func (r *postOrderRequest) Resolve(huma.Context) []error {
	return details(r.Body.Problems())
}

type postOrderResponse struct {
	Location string `header:"Location"`
	Token    string `header:"Courante-Token"`
	Body     Placed
}

func (c *Context) postOrder(ctx context.Context, r *postOrderRequest) (*postOrderResponse, error) {
	placed, err := c.Place(ctx, scoped("/v1/orders", r.Key), &r.Body)
	if err != nil {
		return nil, err
	}
	return &postOrderResponse{"/v1/orders/" + url.PathEscape(placed.OrderID), placed.Token.String(), placed}, nil
}

type getOrderRequest struct {
	ID    string `path:"id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"first"`
	Token string `header:"Courante-Token" doc:"Answer at least as fresh as the command that gave the token"`
	Wait  int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
}

type getOrderResponse struct{ Body orderJSON }

// orderJSON is an Order that was made JSON before, perhaps by another process.
type orderJSON struct{ json.RawMessage }

// Schema is that of an Order.
func (orderJSON) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[Order](), true, "")
}

func (c *Context) getOrder(ctx context.Context, r *getOrderRequest) (*getOrderResponse, error) {
	d, err := c.views.Get(ctx, r.ID, r.Token, time.Duration(r.Wait)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &getOrderResponse{orderJSON{d.Data}}, nil
}

type postCancelRequest struct {
	Key  string `header:"Idempotency-Key" pattern:"^[!-~]{1,255}$" patternDescription:"1 to 255 visible ASCII characters" doc:"The same key with the same body gets the first answer again; with another body 422"`
	ID   string `path:"id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"first"`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"500" example:"changed my mind"`
	} `required:"false"`
}

// Resolve checks what the schema cannot express.
func (r *postCancelRequest) Resolve(huma.Context) []error {
	if r.Body != nil {
		if err := shop.CheckText(r.Body.Reason, shop.MaxText); err != nil {
			return []error{&huma.ErrorDetail{Location: "body/reason", Message: err.Error()}}
		}
	}
	return nil
}

type postCancelResponse struct {
	Status int
	Token  string `header:"Courante-Token"`
	Body   Cancellation
}

func (c *Context) postCancel(ctx context.Context, r *postCancelRequest) (*postCancelResponse, error) {
	reason := ""
	if r.Body != nil {
		reason = r.Body.Reason
	}
	cancelled, already, err := c.Cancel(ctx, scoped("/v1/orders/"+r.ID+"/cancel", r.Key), r.ID, reason)
	if err != nil {
		return nil, err
	}
	status := http.StatusAccepted
	if already {
		status = http.StatusOK
	}
	return &postCancelResponse{status, cancelled.Token.String(), cancelled}, nil
}

// scoped is the idempotency key of a POST: a caller's key counts for one path.
func scoped(path, key string) string {
	if key == "" {
		return ""
	}
	return "POST " + path + " " + key
}
