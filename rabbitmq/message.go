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

// The attributes of a CloudEvent, as its AMQP binding writes them, and ours. In
// RabbitMQ each header adds about a twelfth to the CPU time that a message
// without headers costs, so there are not many: the correlation is AMQP's
// property of that name, and what only the runtime reads is one text.
const (
	headerSpec        = "cloudEvents:specversion"
	headerID          = "cloudEvents:id"     // Event.ID, which ends with the version in the stream
	headerSource      = "cloudEvents:source" // "/log"
	headerType        = "cloudEvents:type"
	headerTime        = "cloudEvents:time"
	headerSubject     = "cloudEvents:subject"       // the stream
	headerSchema      = "cloudEvents:schemaversion" // if it is not 1
	headerCausation   = "cloudEvents:causationid"
	headerCorrelation = "cloudEvents:correlationid" // if it is too long for the property
	headerTrace       = "cloudEvents:traceparent"
	headerPerson      = "cloudEvents:datakeyid" // Event.Subject: whose key destroys the data
	headerPlaces      = "cloudEvents:courante"  // see places
	headerQueues      = "CC"                    // RabbitMQ's: what else to route by
)

const (
	contentType = "application/json"
	// headersMost bounds the texts of a message: headers have to fit into one
	// frame, of 128 KiB by RabbitMQ's default, and a larger one would cost the
	// connection. The rest is for the names and lengths.
	headersMost = 120 << 10
	// shortMost is how long AMQP's short texts may be: names, keys, properties.
	shortMost = 255
)

// encode makes the publication of a message. Marks go to the queues directly:
// they are nobody else's business.
func (n names) encode(m *courante.Message) (exchange, key string, p amqp.Publishing, err error) {
	if len(m.Links) == 0 {
		return "", "", p, errors.New("a message without links is for nobody")
	}
	at, xid, log := m.At, uint64(0), m.Log
	if m.Event != nil {
		at, xid, log = m.Event.Cursor(), m.Event.Xid, m.Event.Log
	}
	p = amqp.Publishing{DeliveryMode: amqp.Persistent, Headers: make(amqp.Table, 16)}
	size := 0
	set := func(name, value string) {
		if value != "" {
			p.Headers[name] = value
			size += len(value)
		}
	}
	queues := make([]any, len(m.Links))
	for i := range m.Links {
		name := n.queue(m.Links[i].Queue)
		size += len(name)
		queues[i] = name
	}
	p.Headers[headerQueues] = queues
	set(headerPlaces, places(at, xid, m.Links))
	set(headerSource, source(log))
	if m.Event == nil {
		return "", queues[0].(string), p, tooLarge("mark", size)
	}
	e := m.Event
	p.ContentType, p.Body = contentType, e.Data
	set(headerSpec, "1.0")
	set(headerID, e.ID())
	set(headerType, e.Type)
	if !e.Time.IsZero() {
		set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	}
	set(headerSubject, e.Stream)
	if e.Schema != 1 {
		p.Headers[headerSchema] = int32(e.Schema)
	}
	if len(e.Correlation) <= shortMost {
		p.CorrelationId = e.Correlation
	} else {
		set(headerCorrelation, e.Correlation)
	}
	set(headerCausation, e.Causation)
	set(headerTrace, e.Trace)
	set(headerPerson, e.Subject)
	// Nobody binds by what is behind the length of a routing key.
	return n.events(), e.Type[:min(len(e.Type), shortMost)], p, tooLarge(e.ID(), size)
}

// places is where the message is in its log and, for each queue in the order of
// headerQueues, in the lane: "place xid epoch@before epoch@before ...".
func places(at courante.Cursor, xid uint64, links []courante.Link) string {
	b := make([]byte, 0, 64*(1+len(links)))
	b = append(appendCursor(b, at), ' ')
	b = strconv.AppendUint(b, xid, 10)
	for i := range links {
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(links[i].Epoch), 10)
		b = append(b, '@')
		b = appendCursor(b, links[i].Before)
	}
	return string(b)
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
	m = courante.Delivery{Log: r.log(), Again: d.Redelivered}
	var xid uint64
	m.At, xid, m.Link = r.places(queue)
	if id := r.text(headerID); id != "" {
		m.Event = &courante.Event{
			Log: m.Log, Stream: r.text(headerSubject), Version: r.version(id),
			Type: r.text(headerType), Schema: r.schema(), Time: r.time(),
			Correlation: d.CorrelationId + r.text(headerCorrelation), Causation: r.text(headerCausation),
			Subject: r.text(headerPerson), Trace: r.text(headerTrace),
			Data:  d.Body,
			Epoch: m.At.Epoch, Tick: m.At.Tick, TickHash: m.At.Hash, Position: m.At.Position, Xid: xid,
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

// version is what an id ends with.
func (r *reader) version(id string) int64 {
	n, err := strconv.ParseInt(id[strings.LastIndexByte(id, '@')+1:], 10, 64)
	r.fail(headerID, err)
	return n
}

func (r *reader) schema() int {
	switch v := r.headers[headerSchema].(type) {
	case nil:
		return 1
	case int32:
		return int(v)
	default:
		r.fail(headerSchema, fmt.Errorf("want a number, not %T", v))
		return 0
	}
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

// places reads what places wrote, and of the links that of the queue.
func (r *reader) places(queue string) (at courante.Cursor, xid uint64, l courante.Link) {
	queues, _ := r.headers[headerQueues].([]any)
	mine := slices.IndexFunc(queues, func(name any) bool { return name == queue })
	if mine < 0 {
		r.fail(headerQueues, fmt.Errorf("%s is not among the queues", queue))
		return
	}
	place, rest, _ := strings.Cut(r.text(headerPlaces), " ")
	number, rest, _ := strings.Cut(rest, " ")
	for range mine {
		_, rest, _ = strings.Cut(rest, " ")
	}
	link, _, _ := strings.Cut(rest, " ")
	epoch, before, _ := strings.Cut(link, "@")
	var err1, err2 error
	xid, err1 = strconv.ParseUint(number, 10, 64)
	l.Epoch, err2 = strconv.Atoi(epoch)
	r.fail(headerPlaces, errors.Join(err1, err2))
	l.Before = r.cursor(before)
	return r.cursor(place), xid, l
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
		r.fail(headerPlaces, fmt.Errorf("%q is not epoch.tick.position.hash", text))
	}
	return courante.Cursor{Epoch: int32(e), Tick: t, Position: p, Hash: h}
}
