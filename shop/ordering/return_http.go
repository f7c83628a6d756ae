package ordering

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (c *Context) returnRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "return-order", Method: http.MethodPost, Path: "/v1/orders/{id}/returns", DefaultStatus: http.StatusAccepted,
		Summary: "Return some or all of a confirmed order", Tags: []string{"orders"}, Errors: []int{http.StatusNotFound, http.StatusConflict},
		Description: "The goods go back to the stock and their price to the customer. 409 before the order is confirmed, 422 for more than was bought and not yet returned.",
	}, c.postReturn)
}

type postReturnRequest struct {
	Key  string `header:"Idempotency-Key" pattern:"^[!-~]{1,255}$" patternDescription:"1 to 255 visible ASCII characters" doc:"The same key with the same body gets the first answer again; with another body 422"`
	ID   string `path:"id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"first"`
	Body ReturnOrder
}

// Resolve adds to the checks of the schema what it cannot express.
func (r *postReturnRequest) Resolve(huma.Context) []error { return details(r.Body.Problems()) }

type postReturnResponse struct {
	Token string `header:"Courante-Token"`
	Body  ReturnAccepted
}

func (c *Context) postReturn(ctx context.Context, r *postReturnRequest) (*postReturnResponse, error) {
	returned, err := c.Return(ctx, scoped("/v1/orders/"+r.ID+"/returns", r.Key), r.ID, &r.Body)
	var no *NotReturnable
	if errors.As(err, &no) {
		return nil, huma.Error422UnprocessableEntity("the return is more than is left of the order", details(no.Problems)...)
	}
	if err != nil {
		return nil, err
	}
	return &postReturnResponse{returned.Token.String(), returned}, nil
}

// details are problems as the gateway expects them.
func details(problems []Problem) []error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, &huma.ErrorDetail{Location: "body" + p.Pointer, Message: p.Detail})
	}
	return errs
}
