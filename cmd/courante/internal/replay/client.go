package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Pauses before a request is repeated: long enough for a system that restarts,
// short enough to be there when it is back.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 2 * time.Second
	mostPause  = 30 * time.Second // of what a Retry-After can ask for
)

// attemptTimeout is more than the system itself takes for its longest request.
const attemptTimeout = 70 * time.Second

// lastWords is how long a request under way may go on after an interrupt.
const lastWords = 5 * time.Second

// client sends requests until it has an answer that says something about them:
// what the system cannot do now (5xx, 429, no connection) is repeated, for as
// long as patience. The idempotency keys make that safe.
type client struct {
	http     *http.Client
	url      string
	patience time.Duration
	slots    chan struct{} // requests at once
	trouble  func(error)   // hears of each repetition
	repeated atomic.Int64
}

// request is one call of the API.
type request struct {
	method, path string
	key          string // idempotency key
	token        string // answer at least this fresh
	body         []byte
}

// answer is what the system said for good.
type answer struct {
	status int
	token  string
	body   []byte
}

// GaveUpError says that the system did not answer a request for so long that
// the replay ended. Whether the request was done is not known.
type GaveUpError struct {
	Request  string
	Patience time.Duration
	Err      error
}

// Error says what to do about it.
func (e *GaveUpError) Error() string {
	return fmt.Sprintf("%s: no answer for %s: %v", e.Request, e.Patience, e.Err)
}

// Unwrap returns the last failure.
func (e *GaveUpError) Unwrap() error { return e.Err }

// do sends the request. The error is ctx's, or a *GaveUpError.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	var first time.Time
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		a, wait, err := c.attempt(ctx, r)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		if now.Sub(first) >= c.patience {
			return answer{}, &GaveUpError{r.method + " " + r.path, c.patience, err}
		}
		c.repeated.Add(1)
		c.trouble(err)
		if wait == 0 {
			wait = pause/2 + rand.N(pause) // so that not all come back at once
		}
		if err := sleep(ctx, wait); err != nil {
			return answer{}, err
		}
	}
}

// attempt sends the request once. wait is how long the system asks for.
func (c *client) attempt(ctx context.Context, r request) (a answer, wait time.Duration, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return answer{}, 0, ctx.Err()
	}
	// An interrupt lets what is under way end: an answer that nobody hears is a
	// line that nobody can account for.
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(lastWords, cancel)
		context.AfterFunc(attempt, func() { timer.Stop() })
	})()
	req, err := http.NewRequestWithContext(attempt, r.method, c.url+r.path, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, 0, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if r.token != "" {
		req.Header.Set("Courante-Token", r.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8*maxRecord)) // an order's view is longer than its request
	if err != nil {
		return answer{}, 0, err
	}
	a = answer{status: res.StatusCode, token: res.Header.Get("Courante-Token"), body: body}
	if a.status >= 500 || a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout {
		return answer{}, retryAfter(res.Header), errors.New(a.says())
	}
	return a, 0, nil
}

// retryAfter is the pause that an answer asks for, in seconds or until a time.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	var wait time.Duration
	if n, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), mostPause)
}

// says is an answer that refuses: its status and the problem's detail.
func (a answer) says() string {
	text := strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	if detail := a.detail(); detail != "" {
		text += ": " + detail
	}
	return text
}

// detail is what the problem of an answer says, "" if it has none.
func (a answer) detail() string {
	var problem struct {
		Detail string `json:"detail"`
		Errors []struct {
			Pointer string `json:"pointer"`
			Detail  string `json:"detail"`
		} `json:"errors"`
	}
	if json.Unmarshal(a.body, &problem) != nil {
		return "" // some proxy's own page
	}
	if len(problem.Errors) == 0 || strings.Contains(problem.Detail, problem.Errors[0].Detail) {
		return problem.Detail
	}
	return strings.TrimSpace(problem.Errors[0].Pointer + " " + problem.Errors[0].Detail)
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
