package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// notes are what an event makes the runtime remember.
type notes struct {
	Set []struct {
		Name string    `json:"name"`
		Due  time.Time `json:"due"`
	} `json:"set"`
	Clear []string `json:"clear"`
	Ask   []struct {
		ID     string `json:"id"`
		Effect string `json:"effect"`
	} `json:"ask"`
	Done []string `json:"done"`
}

func parseNotes(text []byte) (*notes, error) {
	if text == nil {
		return nil, nil
	}
	n := &notes{}
	return n, json.Unmarshal(text, n)
}

// pending is what a stream waits for: the deadlines set and the effects asked
// for and not ended.
type pending struct {
	deadlines []deadline
	effects   []effect
	asked     []string // ids of all effects ever asked for
}

type deadline struct {
	stream string // with its log
	name   string
	due    time.Time
}

type effect struct {
	id    string
	name  string
	asked time.Time
}

// add takes in the notes of the stream's next event.
func (p *pending) add(e *event, c *Check) {
	if e.notes == nil {
		return
	}
	for _, name := range e.notes.Clear {
		if !slices.ContainsFunc(p.deadlines, func(d deadline) bool { return d.name == name }) {
			c.wrong(e.id, "it clears deadline %q, which is not open", name)
		}
		p.deadlines = slices.DeleteFunc(p.deadlines, func(d deadline) bool { return d.name == name })
	}
	for _, id := range e.notes.Done {
		if !slices.ContainsFunc(p.effects, func(r effect) bool { return r.id == id }) {
			c.wrong(e.id, "it ends effect %s, which is not open", id)
		}
		p.effects = slices.DeleteFunc(p.effects, func(r effect) bool { return r.id == id })
	}
	for _, s := range e.notes.Set {
		c.LookedAt++
		p.deadlines = slices.DeleteFunc(p.deadlines, func(d deadline) bool { return d.name == s.Name })
		p.deadlines = append(p.deadlines, deadline{e.log.name + "/" + e.stream, s.Name, s.Due})
	}
	for _, r := range e.notes.Ask {
		c.LookedAt++
		if want := e.id + "/" + r.Effect; r.ID != want {
			c.wrong(e.id, "it asks for effect %s under the key %s", want, r.ID)
		}
		p.asked = append(p.asked, r.ID)
		p.effects = append(p.effects, effect{r.ID, r.Effect, e.at})
	}
}

// open reports whether an effect of that name is open.
func (p *pending) open(name string) bool {
	return slices.ContainsFunc(p.effects, func(r effect) bool { return r.name == name })
}

// ends checks that an event that a deadline or an effect caused also ends it:
// otherwise it would come again.
func (p *pending) ends(e *event, c *Check) {
	switch {
	case slices.Contains(p.asked, e.cause):
		if slices.ContainsFunc(p.effects, func(r effect) bool { return r.id == e.cause }) {
			c.wrong(e.id, "it is an outcome of effect %s and does not end it", e.cause)
		}
	case strings.HasPrefix(e.cause, e.stream+"/deadline/"):
		name := strings.TrimPrefix(e.cause, e.stream+"/deadline/")
		for _, d := range p.deadlines {
			if d.name == name && !d.due.After(e.at) {
				c.wrong(e.id, "deadline %q led to it and is still open", name)
			}
		}
	}
}

func (d deadline) String() string {
	return fmt.Sprintf("deadline %q of %s", d.name, d.due.UTC().Format(time.RFC3339))
}
