package gateway_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
)

// A context declares its operations, and returns errors of the vocabulary; the
// gateway makes answers of them.
func Example() {
	gw, err := gateway.New(gateway.Config{Title: "Books", Version: "1"})
	if err != nil {
		log.Fatal(err)
	}
	huma.Register(gw.API(), huma.Operation{OperationID: "lend", Method: http.MethodPost, Path: "/v1/loans"},
		func(_ context.Context, r *struct {
			Body struct {
				Book string `json:"book" minLength:"1"`
			}
		}) (*struct{}, error) {
			return nil, courante.Reject("conflict", "%s is lent out", r.Body.Book)
		})
	handler := gw.Server("").Handler
	for _, body := range []string{`{"book": "Emma"}`, `{"book": "Emma", "days": 3}`} {
		req := httptest.NewRequest(http.MethodPost, "/v1/loans", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, req)
		fmt.Println(answer.Code, answer.Header().Get("Content-Type"))
		fmt.Println(strings.TrimSpace(answer.Body.String()))
	}
	// Output:
	// 409 application/problem+json
	// {"title":"Conflict","status":409,"detail":"Emma is lent out","errors":[{"pointer":"","detail":"Emma is lent out"}]}
	// 422 application/problem+json
	// {"title":"Unprocessable Entity","status":422,"detail":"/days is not known here","errors":[{"pointer":"/days","detail":"is not known here"}]}
}
