package schema

import (
	"fmt"
	"maps"
	"slices"
)

// Broken says who a change breaks.
type Broken string

const (
	// Nobody is broken: what is stored can be read, and so can what is written.
	Nobody Broken = ""
	// Stored events are not what today's code expects.
	Stored Broken = "stored events"
	// Readers get events that they do not expect: services that are not
	// deployed anew, and those in other languages.
	Readers Broken = "readers"
)

// Change is a difference between two schemas of one version of an event.
type Change struct {
	Path   string `json:"path"` // of the field: "lines[].sku"; "" is the event itself
	Breaks Broken `json:"breaks,omitempty"`
	Detail string `json:"detail"`
}

// Compare returns how the second schema differs from the first.
func Compare(was, is *Schema) []Change {
	var c comparison
	if was.Delivery != is.Delivery {
		breaks := Nobody
		if is.Delivery == "private" {
			breaks = Readers
		}
		c.add("", breaks, "its delivery was %s and is %s", was.Delivery, is.Delivery)
	}
	if was.Owner != is.Owner {
		c.add("", Readers, "it was emitted by %s and is by %s", was.Owner, is.Owner)
	}
	c.compare("", was, is)
	return c.changes
}

type comparison struct{ changes []Change }

func (c *comparison) add(path string, breaks Broken, format string, args ...any) {
	c.changes = append(c.changes, Change{path, breaks, fmt.Sprintf(format, args...)})
}

func (c *comparison) compare(path string, was, is *Schema) {
	c.compareTypes(path, was, is)
	if was.Personal != is.Personal {
		if is.Personal {
			c.add(path, Nobody, "it is marked as personal now; what is stored of it is not protected")
		} else {
			c.add(path, Nobody, "it is not marked as personal any more")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was.Properties)) {
		field := name
		if path != "" {
			field = path + "." + name
		}
		had, wasRequired := was.Properties[name], slices.Contains(was.Required, name)
		has, there := is.Properties[name]
		isRequired := slices.Contains(is.Required, name)
		switch {
		case !there:
			c.add(field, Readers, "it is gone")
			continue
		case wasRequired && !isRequired:
			c.add(field, Readers, "it was always there and may be left out now")
		case !wasRequired && isRequired:
			c.add(field, Stored, "it could be left out and is expected now")
		}
		c.compare(field, had, has)
	}
	for _, name := range slices.Sorted(maps.Keys(is.Properties)) {
		if _, there := was.Properties[name]; there {
			continue
		}
		field := name
		if path != "" {
			field = path + "." + name
		}
		if slices.Contains(is.Required, name) {
			c.add(field, Stored, "it is new and expected, and stored events do not have it")
		} else {
			c.add(field, Nobody, "it is new, and may be left out")
		}
	}
	c.compareParts(path+"[]", was.Items, is.Items)
	c.compareParts(path+".*", was.AdditionalProperties, is.AdditionalProperties)
}

func (c *comparison) compareParts(path string, was, is *Schema) {
	if was != nil && is != nil {
		c.compare(path, was, is)
	}
}

func (c *comparison) compareTypes(path string, was, is *Schema) {
	narrower, wider := !covers(is, was), !covers(was, is)
	switch {
	case narrower && wider:
		c.add(path, Stored, "it was %s and is %s", was.describe(), is.describe())
	case narrower:
		c.add(path, Stored, "it was %s and is %s, which is less", was.describe(), is.describe())
	case wider:
		c.add(path, Readers, "it was %s and is %s, which is more", was.describe(), is.describe())
	}
}

// covers reports whether every value of b, as far as its own type goes, is one
// of a.
func covers(a, b *Schema) bool {
	if len(a.Type) == 0 {
		return true // anything
	}
	if len(b.Type) == 0 {
		return false
	}
	for _, t := range b.Type {
		if !slices.Contains(a.Type, t) && (t != "integer" || !slices.Contains(a.Type, "number")) {
			return false
		}
	}
	return a.Format == b.Format || a.Format == "" || slices.Contains(smaller[a.Format], b.Format)
}

// smaller are the integers that fit into others.
var smaller = map[string][]string{
	"int16":  {"int8", "uint8"},
	"int32":  {"int8", "int16", "uint8", "uint16"},
	"int64":  {"int8", "int16", "int32", "uint8", "uint16", "uint32"},
	"uint16": {"uint8"},
	"uint32": {"uint8", "uint16"},
	"uint64": {"uint8", "uint16", "uint32"},
}

func (s *Schema) describe() string {
	text := "anything"
	for i, t := range s.Type {
		if i == 0 {
			text = t
		} else {
			text += " or " + t
		}
	}
	if s.Format != "" {
		text += " (" + s.Format + ")"
	}
	return text
}
