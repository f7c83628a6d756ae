package gateway

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// describe adds to the description of an operation the answers that come from
// the gateway, whatever the operation does. Those of the operation's own, such
// as 404 and 409, are in its Errors.
func describe(api *huma.OpenAPI, op *huma.Operation) {
	statuses := append([]int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}, op.Errors...)
	if len(op.Parameters) > 0 || op.RequestBody != nil {
		statuses = append(statuses, http.StatusUnprocessableEntity)
	}
	if op.RequestBody != nil {
		statuses = append(statuses, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	delete(op.Responses, "default") // every status has its own
	slices.Sort(statuses)
	for _, status := range slices.Compact(statuses) {
		op.Responses[strconv.Itoa(status)] = problemResponse(api, status)
	}
}

// meanings are what the statuses of problems say, the same everywhere.
var meanings = map[int]string{
	http.StatusBadRequest:            "It cannot be read: no JSON, no token, a header twice",
	http.StatusNotFound:              "There is no such thing",
	http.StatusRequestTimeout:        "The body did not arrive in time",
	http.StatusConflict:              "Not in the present state, or not as fresh as the token asks for",
	http.StatusRequestEntityTooLarge: "The body is too large",
	http.StatusUnsupportedMediaType:  "The body is not sent as application/json",
	http.StatusUnprocessableEntity:   "It can be read, and makes no sense: errors says where",
	http.StatusInternalServerError:   "Our mistake",
	http.StatusServiceUnavailable:    "Not now: repeat it a little later, with the same Idempotency-Key",
}

func problemResponse(api *huma.OpenAPI, status int) *huma.Response {
	meaning := meanings[status]
	if meaning == "" {
		meaning = http.StatusText(status)
	}
	r := &huma.Response{Description: meaning, Content: map[string]*huma.MediaType{
		problemType: {Schema: api.Components.Schemas.Schema(typeOfProblem, true, "")},
	}}
	if retryable(status) {
		r.Headers = map[string]*huma.Param{"Retry-After": {
			Description: "Seconds", Schema: &huma.Schema{Type: huma.TypeInteger},
		}}
	}
	return r
}
