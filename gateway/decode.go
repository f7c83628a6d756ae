package gateway

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decode reads a body into v, a pointer, in one pass: it checks the JSON, the
// types, and the limits that the fields' tags declare. The error is a
// *refusal.
func decode(data []byte, v any) error {
	d := &decoder{scanner: scanner{data: data}}
	if !utf8.Valid(data) {
		return &refusal{Syntax: true, Faults: []Fault{{"", "not UTF-8"}}}
	}
	target := reflect.ValueOf(v).Elem()
	err := d.value(shapeOf(target.Type()), target)
	if d.next(); err == nil && d.pos < len(data) {
		err = badSyntax("more after the end of the JSON value, at byte %d", d.pos)
	}
	if err != nil {
		return &refusal{Syntax: true, Faults: []Fault{{string(d.path), err.Error()}}}
	}
	if len(d.faults) > 0 {
		return &refusal{Faults: d.faults}
	}
	return nil
}

// refusal is why a body is not taken. Huma keeps of an error its text only, so
// the faults travel through huma in the text, as JSON.
type refusal struct {
	Syntax bool    `json:"syntax,omitempty"` // it is no JSON; else it does not mean anything here
	Faults []Fault `json:"faults"`
}

const refused = "gateway: refused: "

func (r *refusal) Error() string {
	text, err := json.Marshal(r)
	if err != nil {
		return refused + "{}" // strings: does not happen
	}
	return refused + string(text)
}

// parseRefusal reads what refusal.Error has written.
func parseRefusal(text string) (*refusal, bool) {
	text, ok := strings.CutPrefix(text, refused)
	r := &refusal{}
	return r, ok && json.Unmarshal([]byte(text), r) == nil
}

// decoder is one pass over a body. What is wrong with the JSON ends it; what is
// wrong with the meaning is noted, so that the caller learns of everything at
// once.
type decoder struct {
	scanner
	path   []byte // JSON pointer to the present value
	depth  int
	faults []Fault
}

// maxFaults is how many faults one answer lists: whoever got 2,000 lines wrong
// got them wrong in one way.
const maxFaults = 100

func (d *decoder) fault(format string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{string(d.path), fmt.Sprintf(format, args...)})
	}
}

// at runs f with the path one name longer.
func (d *decoder) at(name string, f func() error) error {
	end := len(d.path)
	d.path = append(append(d.path, '/'), escape.Replace(name)...)
	err := f()
	if err == nil { // else the path stays: it is where the syntax error is
		d.path = d.path[:end]
	}
	return err
}

// kinds of JSON values, by their first byte.
func kindOf(c byte) string {
	switch {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "true or false"
	case c == 'n':
		return "null"
	case c == '-' || '0' <= c && c <= '9':
		return "a number"
	}
	return ""
}

// value reads the next value into v, which has the shape.
func (d *decoder) value(s *shape, v reflect.Value) error {
	have := kindOf(d.next())
	switch {
	case have == "":
		return d.unexpected("a value")
	case have == "null" && s.schema.Nullable:
		s.check(d, v)
		return d.literal("null")
	case s.want == "":
		return d.foreign(v)
	case have != s.want:
		d.fault("must be %s, not %s", s.want, have)
		return d.skip()
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.object(s, v)
	case reflect.Slice:
		return d.array(s, v)
	case reflect.String:
		text, err := d.text()
		if err != nil {
			return err
		}
		v.SetString(string(text))
	case reflect.Bool:
		v.SetBool(d.data[d.pos] == 't')
		if err := d.literal(strconv.FormatBool(v.Bool())); err != nil {
			return err
		}
	default:
		return d.integer(s, v)
	}
	s.check(d, v)
	return nil
}

func (d *decoder) integer(s *shape, v reflect.Value) error {
	text, err := d.number()
	if err != nil {
		return err
	}
	n, whole, fits := wholeNumber(text)
	switch {
	case !whole:
		d.fault("must be a whole number")
	case !fits || v.OverflowInt(n):
		d.fault("%s", s.limits)
	default:
		v.SetInt(n)
		s.check(d, v)
	}
	return nil
}

func (d *decoder) array(s *shape, v reflect.Value) error {
	d.pos++
	if d.depth++; d.depth > maxDepth {
		return badSyntax("nested deeper than %d levels", maxDepth)
	}
	v.SetLen(0)
	for n := 0; ; n++ {
		more, err := d.more(n == 0, ']')
		if err != nil {
			return err
		}
		if !more {
			break
		}
		end := len(d.path)
		d.path = strconv.AppendInt(append(d.path, '/'), int64(n), 10)
		if s.most > 0 && n >= s.most {
			err = d.skip() // too many: count them, keep none
		} else {
			v.Grow(1)
			v.SetLen(n + 1)
			v.Index(n).SetZero()
			err = d.value(s.elem, v.Index(n))
		}
		if err != nil {
			return err
		}
		d.path = d.path[:end]
		if s.most > 0 && n == s.most {
			d.fault("%s", s.limits)
		}
	}
	d.depth--
	s.check(d, v)
	return nil
}

func (d *decoder) object(s *shape, v reflect.Value) error {
	seen := make([]bool, len(s.fields))
	var unknown map[string]bool
	err := d.members(func(name []byte) error {
		i, known := s.byName[string(name)]
		switch {
		case known && !seen[i]:
			seen[i] = true
			f := &s.fields[i]
			end := len(d.path)
			d.path = append(d.path, f.pointer...)
			if err := d.value(f.shape, v.FieldByIndex(f.index)); err != nil {
				return err
			}
			d.path = d.path[:end]
			return nil
		case known || unknown[string(name)]:
			return d.twice(string(name))
		case unknown == nil:
			unknown = map[string]bool{}
		}
		unknown[string(name)] = true
		return d.at(string(name), func() error {
			d.fault("%s", s.stranger(string(name)))
			return d.skip()
		})
	})
	if err != nil {
		return err
	}
	for i := range s.fields {
		if s.fields[i].required && !seen[i] {
			end := len(d.path)
			d.path = append(d.path, s.fields[i].pointer...)
			d.fault("is required")
			d.path = d.path[:end]
		}
	}
	return nil
}

// members reads an object and calls f for each name, before its value.
func (d *decoder) members(f func(name []byte) error) error {
	d.pos++
	if d.depth++; d.depth > maxDepth {
		return badSyntax("nested deeper than %d levels", maxDepth)
	}
	for first := true; ; first = false {
		more, err := d.more(first, '}')
		if err != nil {
			return err
		}
		if !more {
			d.depth--
			return nil
		}
		name, err := d.text()
		if err != nil {
			return err
		}
		if err := d.take(':'); err != nil {
			return err
		}
		if err := f(name); err != nil {
			return err
		}
	}
}

func (d *decoder) twice(name string) error {
	return d.at(name, func() error { return badSyntax("the name %q is twice in one object", name) })
}

// skip reads a value of which nothing is kept. It is checked all the same.
func (d *decoder) skip() (err error) {
	switch kindOf(d.next()) {
	case "an object":
		seen := map[string]bool{}
		return d.members(func(name []byte) error {
			if seen[string(name)] {
				return d.twice(string(name))
			}
			seen[string(name)] = true
			return d.skip()
		})
	case "an array":
		d.pos++
		if d.depth++; d.depth > maxDepth {
			return badSyntax("nested deeper than %d levels", maxDepth)
		}
		for first := true; ; first = false {
			more, err := d.more(first, ']')
			if err != nil {
				return err
			}
			if !more {
				d.depth--
				return nil
			}
			if err := d.skip(); err != nil {
				return err
			}
		}
	case "a string":
		_, err = d.text()
	case "a number":
		_, err = d.number()
	case "null":
		err = d.literal("null")
	case "true or false":
		if err = d.literal("true"); err != nil {
			err = d.literal("false")
		}
	default:
		err = d.unexpected("a value")
	}
	return err
}

// foreign reads a value whose type reads itself.
func (d *decoder) foreign(v reflect.Value) error {
	from := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	if err := json.Unmarshal(d.data[from:d.pos], v.Addr().Interface()); err != nil {
		d.fault("does not fit here")
	}
	return nil
}
