package courante

import "context"

// Broker carries messages between processes: from the relay of a log, in the
// process that can read it, to the lanes of subscribers, in processes that need
// not. It is an adapter, such as package rabbitmq's, and knows nothing of what
// it carries. courantetest.TestBroker states the contract as a test.
//
// A broker may lose what it has not confirmed, deliver twice, and forget a queue
// that somebody deleted, with all that it held. It must not reorder one queue,
// or confirm what it can still lose. What goes missing all the same is noticed
// by the links of the messages, and asked for again; see [Message].
//
// All methods may be called at once. Errors wrap [ErrTransient]: whoever calls
// tries again, for ever.
type Broker interface {
	// Name is what `courante routes` calls it.
	Name() string

	// Declare makes the queues, if they are not there. Only queues that were
	// declared get messages.
	Declare(ctx context.Context, queues ...Queue) error

	// Publish hands messages over, in order, and returns when every queue that
	// was declared has each of them durably. An error says that some may not
	// have arrived, and some may have, even later ones: repeating all of them,
	// in the same order, is right. A message none of whose queues is there gives
	// an error; one that is for several may miss those that are not there.
	// Calls at once are as if one came after the other for the messages of each
	// call, not for those of different ones.
	Publish(ctx context.Context, messages []Message) error

	// Consume begins to take messages from the queue. At most one consumer of a
	// queue gets messages, whatever the number of processes that have one; when
	// it goes, another one of them takes over, beginning with what was not
	// acknowledged. The queue is declared if it is not there.
	Consume(ctx context.Context, q Queue) (Consumption, error)

	// Receive begins to take the CloudEvents of these types that programs outside
	// send to a service. At most one inbox of a service gets any, as with
	// Consume; others of its processes wait to take over.
	Receive(ctx context.Context, service string, types []string) (Inbox, error)

	// Depth is how many messages are in the queue for whoever consumes it in this
	// process: those that nobody has taken, and those that it has and did not
	// acknowledge. It is for metrics, and may be off by what moves meanwhile.
	Depth(ctx context.Context, q Queue) (int, error)

	// Discard removes the queue with what it holds, unless a process consumes it,
	// and reports whether it is gone.
	Discard(ctx context.Context, q Queue) (gone bool, err error)

	// Ask sends a request to whoever relays the log, and Asked takes those for
	// a log. Requests are few and may be lost: who needs something asks again.
	Ask(ctx context.Context, log string, r RelayRequest) error
	Asked(ctx context.Context, log string) (Requests, error)
}

// Queue names what one lane of a subscriber takes its messages from, those of
// all logs.
type Queue struct {
	Subscriber string
	Lanes      int // of so many
	K          int // this one
}

// Message is an event on its way to lanes, or, without one, the mark that there
// is none: everything in the log up to At has been sent.
type Message struct {
	Event *Event
	Log   string // that a mark is of; an event names its own
	At    Cursor // the place right behind the event, which is Event.Cursor, or of the mark
	Links []Link // the lanes that it is for; each is delivered with its own link
}

// Link ties a message to the events before it in a lane: Before is the place of
// the last one. A lane that has not come as far as Before has missed something.
type Link struct {
	Queue
	Epoch  int // lane epoch
	Before Cursor
}

// Consumption takes messages from a queue. It is used by one goroutine.
type Consumption interface {
	// Take returns what has arrived, about max at most. It does not wait.
	// Messages come in the order published and stay with the consumer until
	// they are acknowledged or it ends. A broker may hold back what comes
	// behind 500 that are not acknowledged. After a lost connection
	// those come again, with new tags.
	Take(ctx context.Context, max int) ([]Delivery, error)

	// Arrived is signalled when Take may have something. It has a buffer of one.
	Arrived() <-chan struct{}

	// Ack lets the broker forget everything up to the delivery of that tag. One
	// from before a lost connection does nothing.
	Ack(ctx context.Context, upTo uint64) error

	// Close gives everything back that was not acknowledged.
	Close()
}

// Delivery is a message as a lane gets it.
type Delivery struct {
	Event *Event // nil: a mark
	Log   string // that it is of
	At    Cursor
	Link  Link
	Tag   uint64 // for Ack, ascending
	Again bool   // the broker says that it may have delivered it before
	Err   error  // it cannot be read; only Tag is set, and the broker has put it aside
}

// RelayRequest is what a subscriber asks of the relay of a log: to send what
// belongs to a lane epoch from its beginning on, or, with Again, what belongs
// to one lane of it and lies behind After; of one that is Retired, nothing more.
type RelayRequest struct {
	Epoch LaneEpoch `json:"epoch"`
	Again bool      `json:"again,omitempty"`
	K     int       `json:"k,omitempty"`
	After Cursor    `json:"after"`
}

// Requests takes what was asked for, as [Consumption] takes messages.
type Requests interface {
	Take(ctx context.Context, max int) ([]RelayRequest, error)
	Arrived() <-chan struct{}
	Close()
}
