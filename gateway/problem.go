package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/courante-dev/courante"
)

// Problem is an error as callers see it: RFC 9457.
type Problem struct {
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"`
	Errors []Fault `json:"errors,omitempty"`
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Pointer string `json:"pointer" doc:"JSON pointer into the body; empty if it is not about the body"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string  { return p.Detail }
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is what a problem is sent as.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// retryAfter is the pause in seconds asked for when we cannot serve now: what
// is wrong for a moment is over in a second, and what is wrong for longer will
// be asked again.
const retryAfter = "1"

// statuses of rejections by their code.
var statuses = map[string]int{
	"not_found":  http.StatusNotFound,
	"conflict":   http.StatusConflict,
	"invalid":    http.StatusUnprocessableEntity,
	"key_reused": http.StatusUnprocessableEntity,
}

// problemOf is the table from errors to what callers see. An error that is not
// in it is a bug of ours: 500, and its text stays here.
func problemOf(err error) *Problem {
	var rejection *courante.Rejection
	var epoch *courante.TokenEpochError
	var tooLarge *http.MaxBytesError
	var known *Problem
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &rejection) && statuses[rejection.Code] != 0:
		return newProblem(statuses[rejection.Code], rejection.Detail)
	case errors.As(err, &epoch):
		return newProblem(http.StatusConflict, "the token is of an earlier state of the database; read again without it")
	case errors.Is(err, courante.ErrBadToken):
		return newProblem(http.StatusBadRequest, "Courante-Token is not a token")
	case errors.Is(err, courante.ErrUnknownOutcome):
		return newProblem(http.StatusServiceUnavailable, "it is not known whether this was done; repeat it with the same Idempotency-Key")
	case errors.Is(err, courante.ErrTransient), errors.Is(err, courante.ErrClosed), errors.Is(err, courante.ErrOverloaded):
		return newProblem(http.StatusServiceUnavailable, "not now; nothing was changed")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem(http.StatusServiceUnavailable, "it took too long")
	case errors.Is(err, courante.ErrNotFound):
		return newProblem(http.StatusNotFound, "there is no such thing")
	case errors.Is(err, courante.ErrTooLarge), errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "the request is too large")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return newProblem(http.StatusBadRequest, "the body ended early")
	}
	return newProblem(http.StatusInternalServerError, "something went wrong on our side")
}

// teachHuma makes huma write its errors as ours. Huma keeps these functions in
// variables of its package; there is no other way to set them.
var teachHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true // "Quantity" is not "quantity"
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		return translate(status, detail, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, detail string, errs ...error) huma.StatusError {
		p := translate(status, detail, errs)
		note(ctx.Context(), p.Status, errs)
		if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
			ctx.SetHeader("Retry-After", retryAfter)
		}
		return p
	}
})

// translate makes a problem of what huma has found, or of the error of an
// operation, which huma reports as status 500.
func translate(status int, detail string, errs []error) *Problem {
	if status == http.StatusInternalServerError && len(errs) > 0 {
		return problemOf(errors.Join(errs...))
	}
	p := newProblem(status, detail)
	seen := map[string]bool{}
	for _, err := range errs {
		var d huma.ErrorDetailer
		if !errors.As(err, &d) {
			continue
		}
		e := d.ErrorDetail()
		f := Fault{Pointer: pointer(e.Location), Detail: e.Message}
		if name, ok := absent(e.Message); ok && strings.HasPrefix(e.Location, "body") {
			f = Fault{Pointer: f.Pointer + "/" + escape.Replace(name), Detail: "is required"}
		}
		place := f.Pointer
		if e.Location != "" && !strings.HasPrefix(e.Location, "body") {
			place = e.Location
			f.Detail = strings.Replace(e.Location, ".", " ", 1) + ": " + e.Message
		}
		// The schema and the context's own checks overlap: the first to speak
		// about a place is enough. The whole body is no such place.
		if place != "" && seen[place] {
			continue
		}
		seen[place] = true
		p.Errors = append(p.Errors, f)
	}
	if status == http.StatusBadRequest && len(p.Errors) > 0 && p.Errors[0].Pointer == "" {
		p.Detail = p.Errors[0].Detail
	}
	return p
}

// absent takes the name out of huma's message about a property that is missing,
// which it reports at the object that should have it.
func absent(message string) (name string, ok bool) {
	before, after, _ := strings.Cut(validation.MsgExpectedRequiredProperty, "%s")
	if name, ok = strings.CutPrefix(message, before); !ok {
		return "", false
	}
	return strings.CutSuffix(name, after)
}

// pointer makes a JSON pointer (RFC 6901) of huma's "body.lines[0].quantity",
// or of "body/lines/0/quantity", as contexts write it.
func pointer(location string) string {
	rest, inBody := strings.CutPrefix(location, "body")
	if !inBody {
		return ""
	}
	if strings.HasPrefix(rest, "/") {
		return rest
	}
	var b strings.Builder
	for rest != "" {
		switch end := strings.IndexAny(rest[1:], ".["); {
		case rest[0] == '[' && strings.Contains(rest, "]"):
			end = strings.IndexByte(rest, ']')
			b.WriteString("/" + rest[1:end])
			rest = rest[end+1:]
		case end < 0:
			b.WriteString("/" + escape.Replace(rest[1:]))
			rest = ""
		default:
			b.WriteString("/" + escape.Replace(rest[1:end+1]))
			rest = rest[end+1:]
		}
	}
	return b.String()
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// write sends the problem without huma, for what goes wrong before an
// operation is found.
func (p *Problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte("{}") // strings and numbers: does not happen
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the caller is gone if it fails
}
