package courante

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"time"
	"unicode/utf8"
)

// Parked is a message set aside: its handler failed, or one of its key did
// before it.
type Parked struct {
	ID         int64 // given by the store
	Subscriber string
	Reaction   string // the reaction that it is for
	Event      Event
	Key        string
	RetryAt    time.Time // zero: not before someone requeues it
	Attempts   int       // that failed; 0 if it only waits behind another

	// What is known of the failures; all empty if it only waits behind another.
	Cause       string // error text of the last one
	Stack       string // of the last one: stack of a panic, function and place of a handler that returned an error
	Fingerprint string // the same for messages that fail alike, see [Parked.Fingerprint]
	FirstFailed time.Time
	LastFailed  time.Time
	FirstBy     string // version of the program that failed first
	LastBy      string // version of the program that failed last
}

// ParkedQuery says which messages that are set aside to read. The zero value
// says all.
type ParkedQuery struct {
	Keys        []string // of these keys only; nil: of all
	Correlation string   // of this saga or request only; "": of all
	Max         int      // the first so many; 0: all
}

// Aside says which keys of a subscriber have messages set aside.
type Aside struct {
	// Revision grows when an operator has requeued or discarded messages.
	Revision int64
	Keys     []AsideKey
}

// AsideKey is what there is to know of a key with messages set aside: about the
// first of them, since the others wait behind it.
type AsideKey struct {
	Key     string
	Failed  bool      // otherwise it only waited for one that is resolved, and can go on
	RetryAt time.Time // of one that failed; zero: not before someone requeues it
}

// maxAttempts is how often a failing handler is tried before its message waits
// for a person. With the backoff that is about ten seconds: longer than a
// deploy of a neighbour, shorter than anybody's patience. One that a person
// requeues is tried once more.
const maxAttempts = 6

// park makes the record of a message that is set aside. cause is nil for one
// that only waits behind another of its key.
func (n *node) park(it *item, cause error) Parked {
	p := Parked{Subscriber: n.svc.name, Event: *it.event, Key: it.key(), Reaction: it.reaction.Name}
	if it.parked != nil {
		p = *it.parked
	}
	if cause == nil {
		return p
	}
	p.RetryAt = time.Time{}
	p.Attempts++
	p.LastFailed, p.LastBy = n.rt.now(), n.rt.cfg.Version
	if p.FirstFailed.IsZero() {
		p.FirstFailed, p.FirstBy = p.LastFailed, p.LastBy
	}
	p.Cause, p.Stack = shorten(cause.Error()), it.reaction.handler
	var panicked *panicError
	if errors.As(cause, &panicked) {
		p.Stack = shorten(string(panicked.stack))
	}
	p.Fingerprint = fingerprint(&p, panicked != nil)
	var forGood *parkError
	var later *retryError
	switch {
	case errors.As(cause, &forGood):
	case errors.As(cause, &later):
		p.RetryAt = n.rt.now().Add(later.after)
	case p.Attempts < maxAttempts:
		p.RetryAt = n.rt.now().Add(n.rt.backoff(p.Attempts, 100*time.Millisecond, 5*time.Second))
	}
	return p
}

// panicError is what a handler's panic becomes.
type panicError struct {
	step  string
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic in %q: %v", e.step, e.value) }

// shorten bounds what a failure may store: some errors carry a whole document.
func shorten(text string) string {
	const most = 16 << 10
	if len(text) <= most {
		return text
	}
	cut := most
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// handlerName is where to look for a function: its name and its place.
func handlerName(do any) string {
	v := reflect.ValueOf(do)
	if v.IsNil() {
		return ""
	}
	f := runtime.FuncForPC(v.Pointer())
	file, line := f.FileLine(f.Entry())
	return fmt.Sprintf("%s\n\t%s:%d", f.Name(), file, line)
}
