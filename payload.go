package courante

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	jsonv1 "github.com/go-json-experiment/json/v1" // encoding/json of Go 1.27
)

// Payload is what the Go type of an event's data must offer: its stored name,
// written by hand, so that renaming the type does not break the store. The
// methods are called on zero values and need a value receiver.
//
// A type may also have
//
//	SchemaVersion() int                                       // default 1
//	Upcast(from int, data json.RawMessage) (json.RawMessage, error) // from version `from` to from+1
//	PersonalKey() string                                      // id of the key of the person it speaks of
//
// and marks fields that hold personal data with the struct tag
// `personal:"true"`. A type that marks a field must have PersonalKey, so that
// erasing a person by destroying a key stays possible.
type Payload interface {
	EventType() string
}

type versioned interface{ SchemaVersion() int }
type upcaster interface {
	Upcast(from int, data json.RawMessage) (json.RawMessage, error)
}
type personal interface{ PersonalKey() string }

// Need says what delivery an event type needs. The router maps it to a
// transport; the code that emits the event never names one.
type Need int

const (
	// Critical events are durable, ordered by key and delivered at least once.
	Critical Need = iota + 1
	// Realtime events are fresh and may be lost.
	Realtime
	// Bulk events go to batched sinks that read the log.
	Bulk
	// Private events never leave their context.
	Private
)

var needNames = map[Need]string{Critical: "critical", Realtime: "realtime", Bulk: "bulk", Private: "private"}

func (n Need) String() string { return needNames[n] }

// MarshalText writes the need's name.
func (n Need) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// EventType describes one declared type of event.
type EventType struct {
	Name     string   `json:"type"`
	Schema   int      `json:"schema"`
	Need     Need     `json:"need"`
	Personal []string `json:"personal,omitempty"` // JSON paths of the fields that hold personal data

	goType reflect.Type
}

func eventType(p Payload, need Need) (EventType, error) {
	t := EventType{Name: p.EventType(), Schema: schemaVersion(p), Need: need, goType: reflect.TypeOf(p)}
	if t.Name == "" || strings.ContainsAny(t.Name, " \t\n") {
		return t, fmt.Errorf("event type %T: EventType() gives %q; write a stored name such as \"shop.order_created\"", p, t.Name)
	}
	if need < Critical || need > Private {
		return t, fmt.Errorf("event type %s: declare what delivery it needs", t.Name)
	}
	if t.Schema < 1 {
		return t, fmt.Errorf("event type %s: schema versions count from 1", t.Name)
	}
	if _, ok := p.(upcaster); t.Schema > 1 && !ok {
		return t, fmt.Errorf("event type %s is at schema version %d but %T has no Upcast for the stored older ones", t.Name, t.Schema, p)
	}
	t.Personal = personalFields(t.goType, "", nil, nil)
	if _, ok := p.(personal); len(t.Personal) > 0 && !ok {
		return t, fmt.Errorf("event type %s marks personal data (%s) but %T has no PersonalKey", t.Name, strings.Join(t.Personal, ", "), p)
	}
	return t, nil
}

// personalFields adds the marked fields of a type; outer are the types around
// it, so that one that contains itself is walked once.
func personalFields(t reflect.Type, path string, found []string, outer []reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(outer, t) {
		return found
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if path != "" {
			name = path + "." + name
		}
		if f.Tag.Get("personal") == "true" {
			found = append(found, name)
			continue
		}
		if f.IsExported() {
			found = personalFields(f.Type, name, found, append(outer[:len(outer):len(outer)], t))
		}
	}
	return found
}

func schemaVersion(p Payload) int {
	if v, ok := p.(versioned); ok {
		return v.SchemaVersion()
	}
	return 1
}

// NewEvent makes an event of a payload: its type, schema version, personal
// subject and data. The store and the runtime fill in the rest.
func NewEvent(p Payload) (Event, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", p.EventType(), err)
	}
	e := Event{Type: p.EventType(), Schema: schemaVersion(p), Data: data}
	if who, ok := p.(personal); ok {
		e.Subject = who.PersonalKey()
	}
	return e, nil
}

// Decode reads the payload of an event. It is the one place where stored data
// of older schema versions is brought up to the version of the type P; the
// store keeps the data as it was written.
func Decode[P Payload](e *Event) (P, error) {
	var p P
	if e.Type != p.EventType() {
		return p, fmt.Errorf("decode %s: the event is a %s, not a %s", e.ID(), e.Type, p.EventType())
	}
	data, err := upcast(p, e)
	if err != nil {
		return p, err
	}
	if err := jsonv1.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("decode %s: %w", e.ID(), err)
	}
	return p, nil
}

// upcast brings an event's data up to the schema version of the payload's type.
func upcast(p Payload, e *Event) (json.RawMessage, error) {
	data := e.Data
	have, want := e.Schema, schemaVersion(p)
	if have > want {
		return nil, fmt.Errorf("decode %s: %s has schema version %d, this program knows up to %d; deploy the newer one first", e.ID(), e.Type, have, want)
	}
	for ; have < want; have++ {
		up, ok := p.(upcaster)
		if !ok {
			return nil, fmt.Errorf("decode %s: %T has no Upcast from schema version %d", e.ID(), p, have)
		}
		var err error
		if data, err = up.Upcast(have, data); err != nil {
			return nil, fmt.Errorf("decode %s: upcast %s from schema version %d: %w", e.ID(), e.Type, have, err)
		}
	}
	return data, nil
}

// GoType is the Go type of the payload; nil if the type was read from a
// manifest.
func (t EventType) GoType() reflect.Type { return t.goType }

// Upcast brings the data of a stored event of this type up to the schema
// version of its Go type, as [Decode] does: for tools that look at events
// without handling them.
func (t EventType) Upcast(e *Event) (json.RawMessage, error) {
	if t.goType == nil {
		return nil, fmt.Errorf("upcast %s: its Go type is not known", t.Name)
	}
	return upcast(reflect.Zero(t.goType).Interface().(Payload), e)
}
