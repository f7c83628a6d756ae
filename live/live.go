// Package live tells over HTTP what happens to a state while somebody watches,
// as Server-Sent Events. A service declares what there is to watch
// (courante.NewWatch) and adds an operation to its API:
//
//	type watchBookRequest struct {
//		ID string `path:"id"`
//		live.Request
//	}
//
//	huma.Register(api, live.Operation[Book, BookChange](api, huma.Operation{
//		OperationID: "watch-book", Path: "/v1/books/{id}/events",
//	}), func(ctx context.Context, r *watchBookRequest) (*live.Response, error) {
//		return live.Open(ctx, watch, r.ID, r.Request)
//	})
//
// A watcher gets the state first and then its changes, each with the version as
// its id. A browser that loses the connection comes back by itself and names the
// id it has seen last: it is told what came after, by whatever process answers.
package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
)

// Request is what a watcher may say, beside whom he means.
type Request struct {
	Token string `header:"Courante-Token" doc:"Begin at least as fresh as the command that gave the token"`
	Wait  int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
	After string `header:"Last-Event-ID" doc:"Id of the last event that was seen: what came after it follows, or the state anew if that is long ago or no such id"`
}

// Response is a stream of events.
type Response struct{ Body func(huma.Context) }

// State is the data of an event "state".
type State[S any] struct {
	Token string `json:"token,omitempty" doc:"For reads at least as fresh"`
	State S      `json:"state"`
}

// Change is the data of an event "change".
type Change[C any] struct {
	Token  string `json:"token,omitempty" doc:"For reads at least as fresh"`
	Change C      `json:"change"`
}

// eventStream is the type of the answer, by which the gateway knows a stream.
const eventStream = "text/event-stream"

const (
	// heartbeat keeps proxies and phone networks from taking a quiet connection
	// for a dead one; most wait for 30 s or longer.
	heartbeat = 15 * time.Second
	// comeBack is how long a browser waits before it connects again.
	comeBack = 2 * time.Second
)

// Operation completes the description of one that is answered by [Open]. S is
// the state as its readers get it, C a change of it.
func Operation[S, C any](api huma.API, op huma.Operation) huma.Operation {
	schemas := api.OpenAPI().Components.Schemas
	event := func(name string, data reflect.Type) *huma.Schema {
		return &huma.Schema{Type: huma.TypeObject, Required: []string{"event", "id", "data"}, Properties: map[string]*huma.Schema{
			"event": {Type: huma.TypeString, Enum: []any{name}},
			"id":    {Type: huma.TypeInteger, Format: "int64", Description: "The state's version, for Last-Event-ID"},
			"data":  schemas.Schema(data, true, ""),
		}}
	}
	op.Method = http.MethodGet
	op.Responses = map[string]*huma.Response{
		"200": {
			Description: "Server-Sent Events: the state, and then each change of it",
			Content: map[string]*huma.MediaType{eventStream: {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{
				OneOf: []*huma.Schema{event("state", reflect.TypeFor[State[S]]()), event("change", reflect.TypeFor[Change[C]]())},
			}}}},
		},
		"204": {Description: "Nothing will happen any more after Last-Event-ID: do not come back"},
	}
	op.Errors = append(op.Errors, http.StatusNotFound, http.StatusConflict)
	return op
}

// Open begins to watch the state with that id and answers with what happens.
func Open(ctx context.Context, w *courante.Watch, id string, r Request) (*Response, error) {
	after, err := strconv.ParseInt(r.After, 10, 64)
	if err != nil {
		after = 0 // a browser cannot do anything about it
	}
	watcher, err := w.Open(ctx, id, r.Token, time.Duration(r.Wait)*time.Millisecond, after)
	if err != nil {
		return nil, err
	}
	return &Response{func(hc huma.Context) {
		defer watcher.Close()
		if watcher.Ended() {
			hc.SetStatus(http.StatusNoContent)
			return
		}
		hc.SetHeader("Content-Type", eventStream)
		hc.SetHeader("Cache-Control", "no-store")
		hc.SetHeader("X-Accel-Buffering", "no") // nginx would keep events until it has a page of them
		hc.SetStatus(http.StatusOK)
		s := stream{watcher: watcher, out: hc.BodyWriter()}
		s.run(ctx)
	}}, nil
}

// stream writes to one who watches.
type stream struct {
	watcher *courante.Watcher
	out     io.Writer
	text    bytes.Buffer
}

// run writes what happens until the state has ended, the other side is gone, or
// the server shuts down. It has no way to tell an error but to end: then the
// watcher comes back, and an answer that is an error he understands.
func (s *stream) run(ctx context.Context) {
	fmt.Fprintf(&s.text, "retry: %d\n\n", comeBack.Milliseconds())
	for s.send() == nil {
		limit, cancel := context.WithTimeout(ctx, heartbeat)
		u, err := s.watcher.Next(limit)
		cancel()
		switch {
		case err == nil:
			s.write(u)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			s.text.WriteString(": nothing new\n\n")
		default:
			return
		}
	}
}

func (s *stream) write(u courante.Update) {
	name := "change"
	var data any = Change[json.RawMessage]{u.Token.String(), u.Data}
	if u.Whole {
		name, data = "state", State[json.RawMessage]{u.Token.String(), u.Data}
	}
	text, err := json.Marshal(data)
	if err != nil {
		text = []byte("{}") // of text and what was JSON before: does not happen
	}
	fmt.Fprintf(&s.text, "event: %s\nid: %d\ndata: %s\n\n", name, u.Version, text)
}

// send sends what is written.
func (s *stream) send() error {
	_, err := s.text.WriteTo(s.out)
	if w, ok := s.out.(http.ResponseWriter); ok && err == nil {
		err = http.NewResponseController(w).Flush()
	}
	if s.text.Cap() > 64<<10 {
		s.text = bytes.Buffer{} // a large state is not kept for each who has seen it
	}
	return err
}
