package rabbitmq

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The attributes of a CloudEvent, as its AMQP binding writes them, and ours.
// The extensions correlationid, causationid, traceparent and dataschemaversion
// are for everybody; what begins with courante is for the runtime.
const (
	headerSpec        = "cloudEvents:specversion"
	headerID          = "cloudEvents:id"
	headerSource      = "cloudEvents:source" // "/log"
	headerType        = "cloudEvents:type"
	headerTime        = "cloudEvents:time"
	headerSubject     = "cloudEvents:subject" // the stream
	headerVersion     = "cloudEvents:streamversion"
	headerSchema      = "cloudEvents:schemaversion"
	headerCorrelation = "cloudEvents:correlationid"
	headerCausation   = "cloudEvents:causationid"
	headerTrace       = "cloudEvents:traceparent"
	headerPerson      = "cloudEvents:datakeyid" // Event.Subject: whose key destroys the data
	headerPlace       = "cloudEvents:courantelogplace"
	headerXid         = "cloudEvents:courantexid"
	headerLinks       = "cloudEvents:courantelinks" // in the order of headerQueues
	headerQueues      = "CC"                        // RabbitMQ's: what else to route by
)

const (
	contentType = "application/json"
	// headersMost bounds the texts of a message: headers have to fit into one
	// frame, of 128 KiB by RabbitMQ's default, and a larger one would cost the
	// connection. The rest is for the names and lengths.
	headersMost = 120 << 10
)

// encode makes the publication of a message. Marks go to the queues directly:
// they are nobody else's business.
func (n names) encode(m *courante.Message) (exchange, key string, p amqp.Publishing, err error) {
	if len(m.Links) == 0 {
		return "", "", p, errors.New("a message without links is for nobody")
	}
	queues := make([]any, len(m.Links))
	links := make([]byte, 0, 64*len(m.Links))
	size := 0
	for i := range m.Links {
		name := n.queue(m.Links[i].Queue)
		size += len(name)
		queues[i] = name
		if i > 0 {
			links = append(links, ' ')
		}
		links = strconv.AppendInt(links, int64(m.Links[i].Epoch), 10)
		links = append(links, '@')
		links = appendCursor(links, m.Links[i].Before)
	}
	p = amqp.Publishing{DeliveryMode: amqp.Persistent, Headers: make(amqp.Table, 16)}
	p.Headers[headerQueues] = queues
	p.Headers[headerLinks] = string(links)
	size += len(links)
	if m.Event == nil {
		p.Headers[headerSource] = source(m.Log)
		p.Headers[headerPlace] = string(appendCursor(nil, m.At))
		return "", queues[0].(string), p, tooLarge("mark", size)
	}
	e := m.Event
	p.ContentType, p.Body = contentType, e.Data
	set := func(name, value string) {
		if value != "" {
			p.Headers[name] = value
			size += len(value)
		}
	}
	set(headerSpec, "1.0")
	set(headerID, e.ID())
	set(headerSource, source(e.Log))
	set(headerType, e.Type)
	if !e.Time.IsZero() {
		set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	}
	set(headerSubject, e.Stream)
	set(headerVersion, strconv.FormatInt(e.Version, 10))
	p.Headers[headerSchema] = int32(e.Schema)
	set(headerCorrelation, e.Correlation)
	set(headerCausation, e.Causation)
	set(headerTrace, e.Trace)
	set(headerPerson, e.Subject)
	set(headerPlace, string(appendCursor(nil, e.Cursor())))
	set(headerXid, strconv.FormatUint(e.Xid, 10))
	// A routing key has at most 255 bytes; nobody binds by what is behind them.
	return n.events(), e.Type[:min(len(e.Type), nameMost)], p, tooLarge(e.ID(), size)
}

func tooLarge(what string, size int) error {
	if size <= headersMost {
		return nil
	}
	return fmt.Errorf("%.200s: its texts and links have %d bytes, RabbitMQ's limit is %d: %w", what, size, headersMost, courante.ErrTooLarge)
}

// source is a log as a URI reference.
func source(log string) string { return "/" + url.PathEscape(log) }

// decode reads a delivery of the queue of that name.
func decode(queue string, d *amqp.Delivery) (m courante.Delivery, err error) {
	r := reader{headers: d.Headers}
	m = courante.Delivery{Log: r.log(), At: r.cursor(r.text(headerPlace)), Link: r.link(queue), Again: d.Redelivered}
	if _, event := d.Headers[headerID]; event {
		m.Event = &courante.Event{
			Log: m.Log, Stream: r.text(headerSubject), Version: r.int(headerVersion),
			Type: r.text(headerType), Schema: r.schema(), Time: r.time(),
			Correlation: r.text(headerCorrelation), Causation: r.text(headerCausation), Subject: r.text(headerPerson), Trace: r.text(headerTrace),
			Data:  d.Body,
			Epoch: m.At.Epoch, Tick: m.At.Tick, TickHash: m.At.Hash, Position: m.At.Position, Xid: r.xid(),
		}
	}
	return m, r.err
}

// reader reads headers and keeps the first error.
type reader struct {
	headers amqp.Table
	err     error
}

func (r *reader) fail(name string, err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("header %s: %w", name, err)
	}
}

// text is "" for a header that is not there: empty ones are not sent.
func (r *reader) text(name string) string {
	switch v := r.headers[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		r.fail(name, fmt.Errorf("want a text, not %T", v))
		return ""
	}
}

func (r *reader) int(name string) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	r.fail(name, err)
	return n
}

func (r *reader) xid() uint64 {
	n, err := strconv.ParseUint(r.text(headerXid), 10, 64)
	r.fail(headerXid, err)
	return n
}

func (r *reader) schema() int {
	n, ok := r.headers[headerSchema].(int32)
	if !ok {
		r.fail(headerSchema, fmt.Errorf("want a number, not %T", r.headers[headerSchema]))
	}
	return int(n)
}

func (r *reader) time() time.Time {
	text := r.text(headerTime)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	r.fail(headerTime, err)
	return t.UTC()
}

func (r *reader) log() string {
	escaped, ok := strings.CutPrefix(r.text(headerSource), "/")
	log, err := url.PathUnescape(escaped)
	if !ok && err == nil {
		err = errors.New("want /log")
	}
	r.fail(headerSource, err)
	return log
}

// link finds the link of the queue.
func (r *reader) link(queue string) (l courante.Link) {
	queues, _ := r.headers[headerQueues].([]any)
	at := slices.IndexFunc(queues, func(name any) bool { return name == queue })
	if at < 0 {
		r.fail(headerQueues, fmt.Errorf("%s is not among the queues", queue))
		return l
	}
	rest := r.text(headerLinks)
	for range at {
		_, rest, _ = strings.Cut(rest, " ")
	}
	text, _, _ := strings.Cut(rest, " ")
	epoch, before, _ := strings.Cut(text, "@")
	var err error
	l.Epoch, err = strconv.Atoi(epoch)
	r.fail(headerLinks, err)
	l.Before = r.cursor(before)
	return l
}

// appendCursor writes epoch.tick.position.hash.
func appendCursor(b []byte, c courante.Cursor) []byte {
	b = append(strconv.AppendInt(b, int64(c.Epoch), 10), '.')
	b = append(strconv.AppendInt(b, c.Tick, 10), '.')
	b = append(strconv.AppendInt(b, c.Position, 10), '.')
	return strconv.AppendUint(b, c.Hash, 16)
}

func (r *reader) cursor(text string) courante.Cursor {
	epoch, rest, _ := strings.Cut(text, ".")
	tick, rest, _ := strings.Cut(rest, ".")
	position, hash, _ := strings.Cut(rest, ".")
	e, err1 := strconv.ParseInt(epoch, 10, 32)
	t, err2 := strconv.ParseInt(tick, 10, 64)
	p, err3 := strconv.ParseInt(position, 10, 64)
	h, err4 := strconv.ParseUint(hash, 16, 64)
	if errors.Join(err1, err2, err3, err4) != nil {
		r.fail("place", fmt.Errorf("%q is not epoch.tick.position.hash", text))
	}
	return courante.Cursor{Epoch: int32(e), Tick: t, Position: p, Hash: h}
}
