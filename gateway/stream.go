package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// eventStream is the type of an answer that goes on for as long as both sides
// want. Which operations have one they say in their description, also to the
// gateway of a fleet.
const eventStream = "text/event-stream"

// streamPatience is how long a write to a stream may take. Whoever does not read
// fills the buffers of the connection first, and then loses it: he comes back
// and names what he has seen last.
const streamPatience = 10 * time.Second

// streams are the paths that are streams, and how many of them are open.
type streams struct {
	paths atomic.Pointer[http.ServeMux]
	open  atomic.Int64
	ctx   context.Context // ends when the server shuts down
	end   context.CancelFunc
}

func newStreams() *streams {
	s := &streams{}
	s.paths.Store(http.NewServeMux())
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// add takes note of an operation, if it is a stream.
func (s *streams) add(_ *huma.OpenAPI, op *huma.Operation) {
	if answer := op.Responses["200"]; answer != nil && answer.Content[eventStream] != nil {
		s.paths.Load().Handle(op.Method+" "+op.Path, http.NotFoundHandler()) // it is only looked up
	}
}

// streamed reports whether a path, as a service describes it, is a stream.
func streamed(path json.RawMessage) bool {
	var described struct {
		Get struct {
			Responses map[string]struct {
				Content map[string]json.RawMessage `json:"content"`
			} `json:"responses"`
		} `json:"get"`
	}
	if json.Unmarshal(path, &described) != nil {
		return false // what it is then, it is no stream
	}
	_, ok := described.Get.Responses["200"].Content[eventStream]
	return ok
}

// replace makes these paths, and no others, streams.
func (s *streams) replace(paths []string) {
	mux := http.NewServeMux()
	for _, path := range paths {
		mux.Handle("GET "+path, http.NotFoundHandler())
	}
	s.paths.Store(mux)
}

// has reports whether the request asks for a stream, before it is routed: that
// decides how long it may take.
func (s *streams) has(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	_, pattern := s.paths.Load().Handler(r)
	return pattern != ""
}

// limited is the context of a request: one that is a stream ends with the
// server.
func (g *Gateway) limited(ctx context.Context, stream bool) (context.Context, context.CancelFunc) {
	if !stream {
		return context.WithTimeout(ctx, g.cfg.Timeout)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(g.streams.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// extend gives the next write to a stream its time. It fails only where there is
// no connection, as in tests of handlers.
func (w *request) extend() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(streamPatience))
}
