package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// body is the body of a request, with its limits of size and time.
type body struct {
	raw     io.Reader
	limited io.Reader
	conn    *http.ResponseController
	timeout time.Duration
	most    int64 // bytes
	begun   bool
	err     error
}

func newBody(w http.ResponseWriter, r *http.Request, cfg Config) *body {
	return &body{
		raw: r.Body, limited: http.MaxBytesReader(w, io.NopCloser(r.Body), cfg.MaxBody),
		conn: http.NewResponseController(w), timeout: cfg.BodyTimeout, most: cfg.MaxBody,
	}
}

// Read reads the body. The time limit is for the body alone: once it is there,
// the operation may take longer, and must still notice a caller who goes away.
func (b *body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if !b.begun {
		b.begun = true
		b.limitTime(time.Now().Add(b.timeout))
	}
	if n, b.err = b.limited.Read(p); errors.Is(b.err, io.EOF) {
		b.limitTime(time.Time{}) // else net/http meets it too when it looks for the end
	}
	return n, b.err
}

// limitTime fails only where there is no connection, as in tests of handlers.
func (b *body) limitTime(t time.Time) { _ = b.conn.SetReadDeadline(t) }

// Close does nothing: net/http closes the body after the answer.
func (b *body) Close() error { return nil }

// patienceFactor is how many times the size limit a caller may go on sending
// after it was refused.
const patienceFactor = 16

// drain reads what the caller still sends of a body that nobody wanted. Many
// clients read no answer before they have sent everything, and would report a
// broken pipe instead of the problem.
func (b *body) drain() {
	var tooLarge *http.MaxBytesError
	if b.err != nil && !errors.As(b.err, &tooLarge) {
		return // it is read, or it cannot be
	}
	b.limitTime(time.Now().Add(b.timeout))
	if _, err := io.CopyN(io.Discard, b.raw, patienceFactor*b.most); errors.Is(err, io.EOF) {
		b.limitTime(time.Time{})
	}
}

// prepare makes an operation leave to the gateway what the gateway does: the
// body's limits, and reading it once instead of once to check it and once to
// have it.
func prepare(api *huma.OpenAPI, op *huma.Operation) {
	op.MaxBodyBytes, op.BodyReadTimeout, op.SkipValidateBody = -1, -1, true
	if op.RequestBody != nil {
		if media := op.RequestBody.Content[jsonType]; media != nil && media.Schema != nil && media.Schema.Ref != "" {
			shapeOf(api.Components.Schemas.TypeFromRef(media.Schema.Ref)) // or panic now
		}
	}
}

const (
	jsonType = "application/json"
	wantJSON = "send the body as Content-Type: application/json, in UTF-8 and not compressed"
)

// checkHeaders refuses what could be understood in two ways.
func (g *Gateway) checkHeaders(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	refuse := func(status int, detail string) {
		_ = huma.WriteErr(g.api, ctx, status, detail) // the caller is gone if it fails
	}
	switch {
	case r.ContentLength == 0: // what does not exist has no type
		r.Header.Del("Content-Type")
	case ctx.Operation().RequestBody != nil && !plainJSON(r.Header):
		ctx.SetHeader("Accept", jsonType)
		refuse(http.StatusUnsupportedMediaType, wantJSON)
		return
	default:
		r.Header.Set("Content-Type", jsonType) // as huma writes it
	}
	for _, p := range ctx.Operation().Parameters {
		values := r.Header.Values(p.Name)
		switch {
		case p.In != "header" || len(values) == 0:
		case len(values) > 1:
			refuse(http.StatusBadRequest, "the header "+p.Name+" is there more than once")
			return
		case values[0] == "" && p.Schema.Pattern != "": // huma takes it for absent
			refuse(http.StatusUnprocessableEntity, "the header "+p.Name+" is empty; leave it out or give it a value")
			return
		}
	}
	next(ctx)
}

// plainJSON reports whether a body is JSON as we read it. A caller that does not
// say what it sends can only mean that: we take nothing else.
func plainJSON(h http.Header) bool {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return false
	}
	if len(h.Values("Content-Type")) == 0 {
		return true
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := params["charset"]
	return err == nil && kind == jsonType && (!given || strings.EqualFold(charset, "utf-8"))
}

// clean reports whether a path, as it was sent, means itself. The router would
// redirect "/a//b" and "/a/../b" to where nobody asked for; a SKU ".." is sent
// as "%2E%2E".
func clean(sent string) bool {
	return strings.TrimSuffix(path.Clean(sent), "/") == strings.TrimSuffix(sent, "/")
}
