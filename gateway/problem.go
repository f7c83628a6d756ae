package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
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
	Detail string  `json:"detail"`
	Errors []Fault `json:"errors" nullable:"false" minItems:"1" doc:"Everything that is wrong"`
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Pointer string `json:"pointer" doc:"JSON pointer into the body; empty if it is not about the body"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string  { return p.Detail }
func (p *Problem) GetStatus() int { return p.Status }

const problemType = "application/problem+json"

var typeOfProblem = reflect.TypeFor[Problem]()

// ContentType is what a problem is sent as.
func (p *Problem) ContentType(string) string { return problemType }

func newProblem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Errors: []Fault{{"", detail}}}
}

// with gives the problem its faults, instead of the one that it is itself.
func (p *Problem) with(faults []Fault) *Problem {
	p.Errors = faults
	return p
}

// retryable reports whether the same request may work a little later.
func retryable(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
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
	var archived *courante.ArchivedError
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
	case errors.As(err, &archived):
		return newProblem(http.StatusGone, fmt.Sprintf("it is known, but its history up to version %d was archived", archived.Version))
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", tooLarge.Limit))
	case errors.Is(err, courante.ErrTooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "the request is too large")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return newProblem(http.StatusBadRequest, "the body ended early")
	}
	return newProblem(http.StatusInternalServerError, "something went wrong on our side")
}

// teachHuma makes huma write its errors as ours. Huma keeps these functions in
// variables of its package; there is no other way to set them.
var teachHuma = sync.OnceFunc(func() {
	// Of what huma checks itself: paths, queries and headers.
	validation.MsgExpectedMatchPattern = "must be like %s"
	validation.MsgExpectedBePattern = "must be %s"
	validation.MsgExpectedMinimumNumber = "must be at least %v"
	validation.MsgExpectedMaximumNumber = "must be at most %v"
	validation.MsgExpectedOneOf = "must be one of \"%s\""
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		return translate(status, detail, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, detail string, errs ...error) huma.StatusError {
		p := translate(status, detail, errs)
		note(ctx.Context(), p.Status, errs)
		if retryable(p.Status) {
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
	var found []Fault
	var places []string // in the body
	add := func(f Fault) {
		// What the gateway has found and the context's own checks overlap: the
		// first to speak about a place, or about what holds it, is enough.
		for _, place := range places {
			if f.Pointer == place || strings.HasPrefix(f.Pointer, place+"/") {
				return
			}
		}
		found, places = append(found, f), append(places, f.Pointer)
	}
	for _, err := range errs {
		var d huma.ErrorDetailer
		if !errors.As(err, &d) {
			continue
		}
		e := d.ErrorDetail()
		place, inBody := strings.CutPrefix(e.Location, "body")
		refusal, ok := parseRefusal(e.Message)
		switch {
		case ok && refusal.Syntax:
			return newProblem(http.StatusBadRequest, refusal.Faults[0].Detail).with(refusal.Faults)
		case ok:
			for _, f := range refusal.Faults {
				add(f)
			}
		case inBody:
			add(Fault{place, e.Message})
		default: // "header.Courante-Wait"
			found = append(found, Fault{"", strings.Replace(e.Location, ".", " ", 1) + ": " + e.Message})
		}
	}
	if len(found) == 0 {
		return newProblem(status, detail)
	}
	detail = strings.TrimSpace(found[0].Pointer + " " + found[0].Detail)
	if n := len(found) - 1; n > 0 {
		detail += fmt.Sprintf(" (and %d more)", n)
	}
	return newProblem(status, detail).with(found[:min(len(found), maxFaults)])
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// write sends the problem without huma, for what goes wrong before an
// operation is found.
func (p *Problem) write(w http.ResponseWriter) {
	body := p.encode()
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if retryable(p.Status) {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the caller is gone if it fails
}

func (p *Problem) encode() []byte {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte("{}") // strings and numbers: does not happen
	}
	return append(body, '\n')
}
