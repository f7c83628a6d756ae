package replay

import "context"

// sequence keeps requests that concern the same thing in the order of the file
// and lets all others overtake: each request waits for the earlier ones that it
// shares a key with. Sharing readers do not wait for one another, as orders of
// the same SKU do not; a writer, such as a change of its stock, waits for all.
type sequence struct {
	lanes map[string]*lane
}

// lane is one key: the last writer, and the readers since.
type lane struct {
	writer  <-chan struct{}
	readers []<-chan struct{}
}

// claim is a request's interest in a key.
type claim struct {
	key    string
	shared bool
}

// turn is a request's place: it begins when all before it are done.
type turn struct {
	before []<-chan struct{}
	done   chan struct{} // closed by its owner
}

func newSequence() *sequence { return &sequence{map[string]*lane{}} }

// take gives a request its place, behind all that took one earlier.
func (q *sequence) take(claims []claim) turn {
	t := turn{done: make(chan struct{})}
	for _, c := range claims {
		l := q.lanes[c.key]
		if l == nil {
			l = &lane{}
			q.lanes[c.key] = l
		}
		if l.writer != nil && !closed(l.writer) {
			t.before = append(t.before, l.writer)
		}
		if c.shared {
			l.read(t.done)
			continue
		}
		for _, r := range l.readers {
			if !closed(r) {
				t.before = append(t.before, r)
			}
		}
		l.writer, l.readers = t.done, nil
	}
	return t
}

// crowd is how many readers a lane keeps before it looks which are done. A
// popular SKU has thousands of orders and few changes of its stock.
const crowd = 64

func (l *lane) read(done <-chan struct{}) {
	if len(l.readers) >= crowd {
		open := l.readers[:0]
		for _, r := range l.readers {
			if !closed(r) {
				open = append(open, r)
			}
		}
		l.readers = open
	}
	l.readers = append(l.readers, done)
}

// wait returns when it is the request's turn.
func (t turn) wait(ctx context.Context) error {
	for _, b := range t.before {
		select {
		case <-b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
