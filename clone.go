package courante

import (
	"reflect"
	"time"
)

// cloner returns a function that makes a copy of a value of the type which
// shares nothing with it that can be changed, or nil if there is no such copy
// to be had, as of a channel or of unexported references. It is made once for
// a type; running it is ten times cheaper than a round trip through JSON.
func cloner(t reflect.Type) func(dst, src reflect.Value) {
	copies, ok := clonerOf(t, map[reflect.Type]bool{})
	if !ok {
		return nil
	}
	if copies == nil {
		return func(dst, src reflect.Value) { dst.Set(src) }
	}
	return copies
}

// clonerOf is nil and true for types whose assignment is a copy.
func clonerOf(t reflect.Type, above map[reflect.Type]bool) (copies func(dst, src reflect.Value), ok bool) {
	if t == reflect.TypeFor[time.Time]() { // immutable by its interface
		return nil, true
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		return nil, false
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array, reflect.Struct:
	default:
		return nil, true
	}
	if above[t] {
		return nil, false // it refers to itself; nobody keeps such states
	}
	above[t] = true
	defer delete(above, t)
	if t.Kind() == reflect.Struct {
		return structCloner(t, above)
	}
	elem, ok := clonerOf(t.Elem(), above)
	if !ok {
		return nil, false
	}
	switch t.Kind() {
	case reflect.Array:
		if elem == nil {
			return nil, true
		}
		return func(dst, src reflect.Value) {
			for i := range src.Len() {
				elem(dst.Index(i), src.Index(i))
			}
		}, true
	case reflect.Slice:
		return func(dst, src reflect.Value) {
			if src.IsNil() {
				dst.SetZero()
				return
			}
			list := reflect.MakeSlice(t, src.Len(), src.Len())
			reflect.Copy(list, src)
			if elem != nil {
				for i := range src.Len() {
					elem(list.Index(i), src.Index(i))
				}
			}
			dst.Set(list)
		}, true
	case reflect.Pointer:
		return func(dst, src reflect.Value) {
			if src.IsNil() {
				dst.SetZero()
				return
			}
			to := reflect.New(t.Elem())
			to.Elem().Set(src.Elem())
			if elem != nil {
				elem(to.Elem(), src.Elem())
			}
			dst.Set(to)
		}, true
	}
	if key, ok := clonerOf(t.Key(), above); !ok || key != nil {
		return nil, false
	}
	return func(dst, src reflect.Value) {
		if src.IsNil() {
			dst.SetZero()
			return
		}
		m := reflect.MakeMapWithSize(t, src.Len())
		value := reflect.New(t.Elem()).Elem()
		for entries := src.MapRange(); entries.Next(); {
			value.Set(entries.Value())
			if elem != nil {
				elem(value, entries.Value())
			}
			m.SetMapIndex(entries.Key(), value)
		}
		dst.Set(m)
	}, true
}

func structCloner(t reflect.Type, above map[reflect.Type]bool) (func(dst, src reflect.Value), bool) {
	type field struct {
		i      int
		copies func(dst, src reflect.Value)
	}
	var fields []field
	for i := range t.NumField() {
		copies, ok := clonerOf(t.Field(i).Type, above)
		if !ok || copies != nil && !t.Field(i).IsExported() {
			return nil, false
		}
		if copies != nil {
			fields = append(fields, field{i, copies})
		}
	}
	if fields == nil {
		return nil, true
	}
	return func(dst, src reflect.Value) {
		dst.Set(src)
		for _, f := range fields {
			f.copies(dst.Field(f.i), src.Field(f.i))
		}
	}, true
}
