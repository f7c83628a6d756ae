package inventory

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante/shop"
)

func (c *Context) routes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "receive-stock", Method: http.MethodPost, Path: "/v1/inventory/{sku}/receipts", DefaultStatus: http.StatusCreated,
		Summary: "Add goods that came in", Tags: []string{"inventory"}, Errors: []int{http.StatusConflict},
		Description: "Creates the SKU. 409 if there would be more of it than can be counted.",
	}, c.postReceipt)
	huma.Register(api, huma.Operation{
		OperationID: "adjust-stock", Method: http.MethodPost, Path: "/v1/inventory/{sku}/adjustments", DefaultStatus: http.StatusCreated,
		Summary: "Correct the stock", Tags: []string{"inventory"}, Errors: []int{http.StatusNotFound, http.StatusConflict},
		Description: "404 if there is no such SKU, 409 if less would be left than is reserved.",
	}, c.postAdjustment)
	huma.Register(api, huma.Operation{
		OperationID: "get-stock", Method: http.MethodGet, Path: "/v1/inventory/{sku}",
		Summary: "How much there is of a SKU", Tags: []string{"inventory"}, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, c.getStock)
}

type changeResponse struct {
	Token string `header:"Courante-Token"`
	Body  Changed
}

type receiptRequest struct {
	Key  string `header:"Idempotency-Key" pattern:"^[!-~]{1,255}$" patternDescription:"1 to 255 visible ASCII characters" doc:"The same key with the same body gets the first answer again; with another body 422"`
	SKU  string `path:"sku" doc:"1 to 64 bytes of UTF-8 without control characters, URL-escaped" example:"85123A"`
	Body struct {
		Quantity int64 `json:"quantity" minimum:"1" maximum:"1000000000" example:"100"`
	}
}

// Resolve checks what the schema cannot express.
func (r *receiptRequest) Resolve(huma.Context) []error { return checkSKU(r.SKU) }

func (c *Context) postReceipt(ctx context.Context, r *receiptRequest) (*changeResponse, error) {
	changed, err := c.Receive(ctx, scoped(r.SKU, "receipts", r.Key), r.SKU, r.Body.Quantity)
	if err != nil {
		return nil, err
	}
	return &changeResponse{changed.Token.String(), changed}, nil
}

type adjustmentRequest struct {
	Key  string `header:"Idempotency-Key" pattern:"^[!-~]{1,255}$" patternDescription:"1 to 255 visible ASCII characters" doc:"The same key with the same body gets the first answer again; with another body 422"`
	SKU  string `path:"sku" doc:"1 to 64 bytes of UTF-8 without control characters, URL-escaped" example:"85123A"`
	Body struct {
		Quantity int64  `json:"quantity" minimum:"-1000000000" maximum:"1000000000" doc:"Signed, not 0" example:"-1"`
		Reason   string `json:"reason" minLength:"1" maxLength:"500" example:"broken"`
	}
}

// Resolve checks what the schema cannot express.
func (r *adjustmentRequest) Resolve(huma.Context) []error {
	errs := checkSKU(r.SKU)
	if err := shop.CheckText(r.Body.Reason, shop.MaxText); err != nil {
		errs = append(errs, &huma.ErrorDetail{Location: "body/reason", Message: err.Error()})
	}
	if r.Body.Quantity == 0 {
		errs = append(errs, &huma.ErrorDetail{Location: "body/quantity", Message: "must not be 0"})
	}
	return errs
}

func (c *Context) postAdjustment(ctx context.Context, r *adjustmentRequest) (*changeResponse, error) {
	changed, err := c.Adjust(ctx, scoped(r.SKU, "adjustments", r.Key), r.SKU, r.Body.Quantity, r.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &changeResponse{changed.Token.String(), changed}, nil
}

type stockRequest struct {
	SKU   string `path:"sku" doc:"1 to 64 bytes of UTF-8 without control characters, URL-escaped" example:"85123A"`
	Token string `header:"Courante-Token" doc:"Answer at least as fresh as the command that gave the token"`
	Wait  int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
}

// Resolve checks what the schema cannot express.
func (r *stockRequest) Resolve(huma.Context) []error { return checkSKU(r.SKU) }

type stockResponse struct{ Body Level }

func (c *Context) getStock(ctx context.Context, r *stockRequest) (*stockResponse, error) {
	res := &stockResponse{}
	err := c.svc.Read(ctx, r.Token, time.Duration(r.Wait)*time.Millisecond, func() (err error) {
		res.Body, err = c.Level(ctx, r.SKU)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func checkSKU(sku string) []error {
	if err := shop.CheckSKU(sku); err != nil {
		return []error{&huma.ErrorDetail{Location: "path.sku", Message: err.Error()}}
	}
	return nil
}

// scoped is the idempotency key of a POST: a caller's key counts for one path.
func scoped(sku, change, key string) string {
	if key == "" {
		return ""
	}
	return "POST /v1/inventory/" + url.PathEscape(sku) + "/" + change + " " + key
}
