package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
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
	// Both are broken.
	Both Broken = "stored events and readers"
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
		breaks := Readers // who may lose events now, or gets none any more
		if was.Delivery == "private" || is.Delivery == "critical" {
			breaks = Nobody
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
		c.add(path, Both, "it was %s and is %s", was.describe(), is.describe())
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
	return (a.Format == b.Format || a.Format == "") &&
		allows(a.Minimum, b.Minimum, least) && allows(a.Maximum, b.Maximum, most) &&
		allows(a.MinItems, b.MinItems, least) && allows(a.MaxItems, b.MaxItems, most)
}

const least, most = -1, 1

// allows reports whether a bound lets through what has another bound, or is
// it. No bound lets everything through.
func allows(bound, other *json.Number, side int) bool {
	if bound == nil || other == nil {
		return bound == nil
	}
	b, okBound := new(big.Int).SetString(bound.String(), 10)
	o, okOther := new(big.Int).SetString(other.String(), 10)
	return okBound && okOther && o.Cmp(b)*side <= 0
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
	switch {
	case s.Format != "":
		text += " (" + s.Format + ")"
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(" (%s to %s)", *s.Minimum, *s.Maximum)
	case s.MinItems != nil:
		text += " of " + s.MinItems.String()
	}
	return text
}
