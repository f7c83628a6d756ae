// Package schema writes down what events look like, as JSON Schema 2020-12,
// and holds the code to what was written down. Events are kept for ever and
// read by services in other languages, so a Go type that changes must go on
// reading what is stored and writing what others read; see [Check].
//
// The schemas are made from the Go types of the payloads by this package's own
// reflection: the comparison has to know every form that can come out, and a
// general generator makes forms that nobody here writes.
package schema

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

// Schema is the JSON Schema of an event's data, or of a part of it: the subset
// that Go types have. Objects are open: readers ignore fields that they do not
// know, which is what lets fields be added.
type Schema struct {
	Dialect  string `json:"$schema,omitempty"`
	Title    string `json:"title,omitempty"`            // the event's type
	Version  int    `json:"x-schema-version,omitempty"` // of the event's schema
	Owner    string `json:"x-owner,omitempty"`          // the service that emits it
	Delivery string `json:"x-delivery,omitempty"`       // see courante.Need

	Type                 Types              `json:"type,omitempty"` // none: anything
	Format               string             `json:"format,omitempty"`
	Personal             bool               `json:"x-personal,omitempty"` // it says something about a person
	Required             []string           `json:"required,omitempty"`
	Properties           map[string]*Schema `json:"properties,omitempty"`
	Minimum              *json.Number       `json:"minimum,omitempty"`
	Maximum              *json.Number       `json:"maximum,omitempty"`
	Items                *Schema            `json:"items,omitempty"`
	MinItems             *json.Number       `json:"minItems,omitempty"` // of a Go array: its length, as MaxItems
	MaxItems             *json.Number       `json:"maxItems,omitempty"`
	AdditionalProperties *Schema            `json:"additionalProperties,omitempty"` // of a Go map: its values
}

// Types are the JSON types that a value may have.
type Types []string

// MarshalJSON writes one type as a string and several as a list.
func (t Types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Types) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = Types{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// Of returns the schema of an event type that a service declares. The error
// names a field whose Go type has no fixed form in JSON.
func Of(service string, t courante.EventType) (*Schema, error) {
	s, err := reflected(t.GoType(), nil)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t.Name, err)
	}
	s.Dialect = "https://json-schema.org/draft/2020-12/schema"
	s.Title, s.Version, s.Owner, s.Delivery = t.Name, t.Schema, service, t.Need.String()
	return s, nil
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	texts    = reflect.TypeFor[encoding.TextMarshaler]()
	jsons    = reflect.TypeFor[json.Marshaler]()
)

// reflected is the schema of a Go type; outer are the types around it.
func reflected(t reflect.Type, outer []reflect.Type) (*Schema, error) {
	if slices.Contains(outer, t) {
		return nil, fmt.Errorf("%s contains itself; an event is a tree of known depth", t)
	}
	switch {
	case t == timeType:
		return &Schema{Type: Types{"string"}, Format: "date-time"}, nil
	case t == rawType || t.Kind() == reflect.Interface:
		return &Schema{}, nil
	case t.Implements(texts):
		return &Schema{Type: Types{"string"}}, nil
	case t.Implements(jsons):
		return nil, fmt.Errorf("%s encodes itself, so its form is not known; use a type without MarshalJSON", t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		s, err := reflected(t.Elem(), outer)
		return s.orNull(), err
	case reflect.String:
		return &Schema{Type: Types{"string"}}, nil
	case reflect.Bool:
		return &Schema{Type: Types{"boolean"}}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		last := int64(1)<<(t.Bits()-1) - 1
		return integer(strconv.FormatInt(-last-1, 10), strconv.FormatInt(last, 10)), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return integer("0", strconv.FormatUint(^uint64(0)>>(64-t.Bits()), 10)), nil
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: Types{"number"}}, nil
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return (&Schema{Type: Types{"string"}, Format: "base64"}).orNull(), nil
		}
		items, err := reflected(t.Elem(), outer)
		s := &Schema{Type: Types{"array"}, Items: items}
		if t.Kind() == reflect.Slice {
			return s.orNull(), err
		}
		n := json.Number(strconv.Itoa(t.Len()))
		s.MinItems, s.MaxItems = &n, &n
		return s, err
	case reflect.Map:
		values, err := reflected(t.Elem(), outer)
		return (&Schema{Type: Types{"object"}, AdditionalProperties: values}).orNull(), err
	case reflect.Struct:
		s := &Schema{Type: Types{"object"}, Properties: map[string]*Schema{}}
		err := s.addFields(t, append(outer[:len(outer):len(outer)], t))
		return s, err
	}
	return nil, fmt.Errorf("%s has no form in JSON", t)
}

// addFields adds the fields of a struct as encoding/json sees them.
func (s *Schema) addFields(t reflect.Type, outer []reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			if err := s.addFields(f.Type, outer); err != nil {
				return err
			}
			continue
		}
		if name == "-" && options == "" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		field, err := reflected(f.Type, outer)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		field.Personal = f.Tag.Get("personal") == "true"
		if leftOut(f.Type, options) {
			field = field.notNull() // null is what is left out
		} else {
			s.Required = append(s.Required, name)
		}
		s.Properties[name] = field
	}
	return nil
}

// leftOut reports whether encoding/json leaves the zero value of a field out:
// omitempty does nothing for structs and for arrays with elements.
func leftOut(t reflect.Type, options string) bool {
	always := t.Kind() == reflect.Struct || t.Kind() == reflect.Array && t.Len() > 0
	for option := range strings.SplitSeq(options, ",") {
		if option == "omitzero" || option == "omitempty" && !always {
			return true
		}
	}
	return false
}

func integer(from, to string) *Schema {
	minimum, maximum := json.Number(from), json.Number(to)
	return &Schema{Type: Types{"integer"}, Minimum: &minimum, Maximum: &maximum}
}

func (s *Schema) orNull() *Schema {
	if s != nil && len(s.Type) == 1 {
		s.Type = append(s.Type, "null")
	}
	return s
}

func (s *Schema) notNull() *Schema {
	if len(s.Type) == 2 {
		s.Type = s.Type[:1]
	}
	return s
}
