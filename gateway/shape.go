package gateway

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// shape is what a value of a body may look like: a Go type with the limits that
// huma publishes for it, made ready for reading. It is made from the schema, so
// that what is published and what is checked are the same.
type shape struct {
	schema *huma.Schema
	want   string // kind of JSON value; "" if the type reads itself
	limits string // what to say about a number or a length out of range

	least, most int // of a list's or a text's length; most 0: no limit
	low, high   int64
	pattern     *regexp.Regexp

	elem   *shape // of a list
	fields []field
	byName map[string]int
}

type field struct {
	name     string
	pointer  string // "/" and the name, escaped
	index    []int
	required bool
	shape    *shape
}

var shapes sync.Map // *shape by reflect.Type

// shapeOf panics if the type declares a limit that is not checked here: it
// would be published and not hold.
func shapeOf(t reflect.Type) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	registry := huma.NewMapRegistry("#/", huma.DefaultSchemaNamer)
	s := newShape(registry, t, registry.Schema(t, true, "Body"))
	shapes.Store(t, s)
	return s
}

func newShape(registry huma.Registry, t reflect.Type, schema *huma.Schema) *shape {
	if schema.Ref != "" {
		schema = registry.SchemaFromRef(schema.Ref)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := &shape{schema: schema, low: math.MinInt64, high: math.MaxInt64}
	switch {
	case t.Kind() == reflect.Struct && schema.Type == huma.TypeObject:
		s.want = kindOf('{')
		s.byName = map[string]int{}
		s.addFields(registry, t, nil)
	case t.Kind() == reflect.Slice && schema.Type == huma.TypeArray:
		s.want = kindOf('[')
		s.elem = newShape(registry, t.Elem(), schema.Items)
		s.setLength(schema.MinItems, schema.MaxItems, "items")
	case t.Kind() == reflect.String && schema.Type == huma.TypeString:
		s.want = kindOf('"')
		s.setLength(schema.MinLength, schema.MaxLength, "characters")
		if schema.Pattern != "" {
			s.pattern = regexp.MustCompile(schema.Pattern)
		}
	case t.Kind() == reflect.Bool && schema.Type == huma.TypeBoolean:
		s.want = kindOf('t')
	case (t.Kind() == reflect.Int || t.Kind() == reflect.Int64 || t.Kind() == reflect.Int32) && schema.Type == huma.TypeInteger:
		s.want = kindOf('0')
		s.setRange()
	}
	if limit := s.unchecked(); limit != "" {
		panic(fmt.Sprintf("gateway: a body has a %s with the limit %s, which is not checked; check it in Resolve, or teach shape.go", t, limit))
	}
	return s
}

// unchecked names a limit of the schema that [shape.check] does not know.
func (s *shape) unchecked() string {
	c := s.schema
	switch {
	case c.MultipleOf != nil || c.ExclusiveMinimum != nil || c.ExclusiveMaximum != nil:
		return "multipleOf or exclusive"
	case c.UniqueItems || c.MinProperties != nil || c.MaxProperties != nil || len(c.DependentRequired) > 0:
		return "uniqueItems, minProperties, maxProperties or dependentRequired"
	case len(c.OneOf)+len(c.AnyOf)+len(c.AllOf) > 0 || c.Not != nil:
		return "oneOf, anyOf, allOf or not"
	case s.want == "" && (c.Minimum != nil || c.Maximum != nil || c.MinLength != nil || c.MaxLength != nil || c.Pattern != ""):
		return "of a number or text"
	case len(c.Enum) > 0 && s.want != kindOf('"'):
		return "enum"
	}
	return ""
}

// addFields adds the fields of a struct, and of those embedded in it.
func (s *shape) addFields(registry huma.Registry, t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := append(slices.Clip(index), i)
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			s.addFields(registry, f.Type, at)
			continue
		}
		schema := s.schema.Properties[name]
		if schema == nil {
			continue // not exported, or hidden
		}
		s.byName[name] = len(s.fields)
		s.fields = append(s.fields, field{
			name: name, pointer: "/" + escape.Replace(name), index: at,
			required: slices.Contains(s.schema.Required, name),
			shape:    newShape(registry, f.Type, schema),
		})
	}
}

func (s *shape) setLength(least, most *int, of string) {
	if least != nil {
		s.least = *least
	}
	if most != nil {
		s.most = *most
	}
	switch {
	case s.most == 0 && s.least == 1:
		s.limits = "must not be empty"
	case s.most == 0:
		s.limits = fmt.Sprintf("must be at least %d %s long", s.least, of)
	case s.least == s.most:
		s.limits = fmt.Sprintf("must be %d %s long", s.most, of)
	case s.least == 0:
		s.limits = fmt.Sprintf("must be at most %d %s long", s.most, of)
	default:
		s.limits = fmt.Sprintf("must be %d to %d %s long", s.least, s.most, of)
	}
}

func (s *shape) setRange() {
	if s.schema.Minimum != nil {
		s.low = int64(*s.schema.Minimum)
	}
	if s.schema.Maximum != nil {
		s.high = int64(*s.schema.Maximum)
	}
	switch {
	case s.high == math.MaxInt64 && s.low == math.MinInt64:
		s.limits = "is too large"
	case s.high == math.MaxInt64:
		s.limits = fmt.Sprintf("must be at least %d", s.low)
	case s.low == math.MinInt64:
		s.limits = fmt.Sprintf("must be at most %d", s.high)
	default:
		s.limits = fmt.Sprintf("must be %d to %d", s.low, s.high)
	}
}

// check notes what limits v breaks.
func (s *shape) check(d *decoder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n := v.Int(); n < s.low || n > s.high {
			d.fault("%s", s.limits)
		}
	case reflect.Slice:
		if v.Len() < s.least { // too many are noted where they are read
			d.fault("%s", s.limits)
		}
	case reflect.String:
		s.checkText(d, v.String())
	}
}

func (s *shape) checkText(d *decoder, text string) {
	n := len(text)
	if n > s.most { // bytes are never fewer than characters
		n = utf8.RuneCountInString(text)
	}
	switch {
	case n < s.least || s.most > 0 && n > s.most:
		d.fault("%s", s.limits)
	case s.pattern != nil && !s.pattern.MatchString(text):
		what := s.schema.PatternDescription
		if what == "" {
			what = "like " + s.schema.Pattern
		}
		d.fault("must be %s", what)
	case len(s.schema.Enum) > 0 && !slices.Contains(s.schema.Enum, any(text)):
		var words []string
		for _, word := range s.schema.Enum {
			words = append(words, fmt.Sprintf("%q", word))
		}
		d.fault("must be %s", strings.Join(words, " or "))
	}
}

// stranger is what to say about a name that is none of the shape's.
func (s *shape) stranger(name string) string {
	for _, f := range s.fields {
		if strings.EqualFold(f.name, name) {
			return fmt.Sprintf("is not known here; names are case-sensitive: %q", f.name)
		}
	}
	return "is not known here"
}

// wholeNumber reads a number of JSON as an integer, however it is written:
// 1000, 1e3 and 1000.0 are one number. whole is false if it has a fraction,
// fits if it is more than an int64 holds.
func wholeNumber(text []byte) (n int64, whole, fits bool) {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, true, true
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(text)), "e")
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	before, after, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(before+after, "0")
	if digits == "" {
		return 0, true, true
	}
	e, err := strconv.Atoi(exponent)
	switch {
	case exponent == "":
	case err != nil:
		return 0, !strings.HasPrefix(exponent, "-"), false
	}
	significant := strings.TrimRight(digits, "0")
	// Bounded before anything is added: no body has as many digits.
	e = min(max(e, -1<<30), 1<<30) - len(after) + len(digits) - len(significant)
	switch {
	case e < 0:
		return 0, false, false
	case e+len(significant) > 19:
		return 0, true, false
	}
	if negative {
		significant = "-" + significant
	}
	n, err = strconv.ParseInt(significant+strings.Repeat("0", e), 10, 64)
	return n, true, err == nil
}
