package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

type eventsShowCommand struct {
	What string `arg:"" name:"stream-or-event" help:"An event, LOG/STREAM@VERSION, or a stream, STREAM or LOG/STREAM."`
}

// Help teaches by example.
func (eventsShowCommand) Help() string {
	return `Of an event it prints what led to it, back to the command, and what it led to. The ids are those that events tail prints.

Examples:

  courante events show {log}/{stream}@1
  courante events show {stream}
  courante events show {stream} --json`
}

// Run prints an event or a stream.
func (c *eventsShowCommand) Run(ctx context.Context, p *Program) error {
	id, err := parseEventID(c.What)
	if err != nil {
		return err
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	events, err := v.find(ctx, id)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		return fmt.Errorf("there is no %s.\nSee what there is with: courante events tail --from start --no-follow", c.What)
	}
	if id.version > 0 && !p.Globals.JSON {
		return v.explain(ctx, p.Stdout, &events[0])
	}
	for i := range events {
		if p.Globals.JSON {
			err = p.PrintJSON(lineOf(&events[i]))
		} else {
			err = printEvent(p.Stdout, &events[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eventID is an event's id, or a part of it.
type eventID struct {
	log     string // "" for all
	stream  string
	version int64 // 0 for all
}

func parseEventID(text string) (id eventID, err error) {
	id.stream = text
	if log, rest, ok := strings.Cut(text, "/"); ok && !strings.Contains(log, ":") {
		id.log, id.stream = log, rest
	}
	if at := strings.LastIndexByte(id.stream, '@'); at >= 0 {
		version := id.stream[at+1:]
		id.stream = id.stream[:at]
		if id.version, err = strconv.ParseInt(version, 10, 64); err != nil || id.version < 1 {
			return id, UsageError{fmt.Errorf("%q is no version: versions count from 1", version)}
		}
	}
	if !strings.Contains(id.stream, ":") {
		return id, UsageError{fmt.Errorf("%q is neither a stream, such as order:first, nor an event, such as ordering/order:first@1", text)}
	}
	return id, nil
}

// find returns the events that the id names, of the first log that has any.
func (v *visitor) find(ctx context.Context, id eventID) ([]courante.Event, error) {
	if id.log != "" {
		if _, err := v.log(id.log); err != nil {
			return nil, err
		}
	}
	var events []courante.Event
	for _, m := range v.mounts {
		if id.log != "" && id.log != m.Service.Name() {
			continue
		}
		for e, err := range m.Store.ReadStream(ctx, id.stream, max(id.version-1, 0)) {
			if err != nil {
				return nil, err
			}
			events = append(events, e)
			if id.version > 0 {
				break
			}
		}
		if len(events) > 0 {
			return events, nil
		}
	}
	return nil, nil
}

// explain prints an event between its causes and its consequences.
func (v *visitor) explain(ctx context.Context, w io.Writer, e *courante.Event) error {
	related, err := v.related(ctx, e)
	if err != nil {
		return err
	}
	byID := map[string]*courante.Event{}
	for i := range related {
		byID[related[i].ID()] = &related[i]
	}
	var chain []string
	root := e
	for cause := causeOf(byID, root); cause != nil && len(chain) < len(related); cause = causeOf(byID, root) {
		chain = append(chain, fmt.Sprintf("%-28s %s", cause.Type, cause.ID()))
		root = cause
	}
	fmt.Fprintln(w, "BECAUSE OF")
	fmt.Fprintf(w, "  %s\n", sentence(root.Causation))
	for i := len(chain) - 1; i >= 0; i-- {
		fmt.Fprintf(w, "  %s\n", chain[i])
	}
	fmt.Fprintln(w, "\nEVENT")
	if err := printEvent(w, e); err != nil {
		return err
	}
	fmt.Fprintln(w, "LED TO")
	nothing := true
	for i := range related {
		if cause := causeOf(byID, &related[i]); cause != nil && cause.ID() == e.ID() {
			fmt.Fprintf(w, "  %-28s %s\n", related[i].Type, related[i].ID())
			nothing = false
		}
	}
	if nothing {
		fmt.Fprintln(w, "  nothing that was recorded")
	}
	return nil
}

// related are the events of the sagas that the event is of, of those that began
// or go on because of it, and of those that it comes from.
func (v *visitor) related(ctx context.Context, e *courante.Event) ([]courante.Event, error) {
	graphs, err := courante.BuildSagas(v.declared)
	if err != nil {
		return nil, err
	}
	related := []courante.Event{*e}
	seen := map[string]bool{e.ID(): true}
	add := func(events []courante.Event) {
		for _, other := range events {
			if !seen[other.ID()] {
				seen[other.ID()] = true
				related = append(related, other)
			}
		}
	}
	read := func(ids ...string) error {
		for _, id := range ids {
			for _, g := range graphs {
				_, events, err := courante.ReadSaga(ctx, g, v.mounts, id, time.Now())
				if err != nil && !errors.Is(err, courante.ErrNotFound) {
					return err
				}
				add(events)
			}
		}
		return nil
	}
	// What another saga does because of it is found by what it names.
	if err := read(append([]string{e.Correlation}, named(e)...)...); err != nil {
		return nil, err
	}
	for cause, i := e, 0; i < mostCauses; i++ {
		id, ok := v.behind(cause)
		if !ok {
			break
		}
		events, err := v.find(ctx, id)
		if err != nil || len(events) == 0 {
			return related, err
		}
		cause = &events[0]
		if !seen[cause.ID()] {
			add(events)
			if err := read(cause.Correlation); err != nil {
				return nil, err
			}
		}
	}
	return related, nil
}

// behind names the event that an event comes from, if it is one, and in a log
// that is here; a command and a deadline are none.
func (v *visitor) behind(e *courante.Event) (eventID, bool) {
	text := e.Causation
	if at := strings.IndexByte(text, '@'); at >= 0 { // an effect's request is called by the event that asked
		if end := strings.IndexByte(text[at:], '/'); end > 0 {
			text = text[:at+end]
		}
	}
	id, err := parseEventID(text)
	return id, err == nil && id.version > 0 && v.stores[id.log] != nil
}

// mostCauses is how far back causes are followed.
const mostCauses = 1000

// named are the texts of the event that may be keys of other things.
func named(e *courante.Event) (ids []string) {
	const most = 16
	var fields map[string]any
	if json.Unmarshal(e.Data, &fields) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if id, ok := fields[name].(string); ok && id != "" && id != e.Correlation && len(ids) < most {
			ids = append(ids, id)
		}
	}
	return ids
}

// causeOf is the event behind an event's causation. The outcome of an effect
// names the event that asked for it, and itself behind it; a deadline names the
// stream, where some event has set it.
func causeOf(byID map[string]*courante.Event, e *courante.Event) *courante.Event {
	if cause := byID[e.Causation]; cause != nil {
		return cause
	}
	if stream, name, ok := strings.Cut(e.Causation, "/deadline/"); ok {
		var setter *courante.Event
		for _, other := range byID {
			if other.Log == e.Log && other.Stream == stream && sets(other, name) && (setter == nil || other.Version > setter.Version) &&
				(other.Stream != e.Stream || other.Version < e.Version) {
				setter = other
			}
		}
		return setter
	}
	if i := strings.LastIndexByte(e.Causation, '/'); i > 0 {
		return byID[e.Causation[:i]]
	}
	return nil
}

func sets(e *courante.Event, deadline string) bool {
	return e.Notes != nil && slices.ContainsFunc(e.Notes.Set, func(d courante.Deadline) bool { return d.Name == deadline })
}

// sentence says what a causation means that is no event.
func sentence(causation string) string {
	if id, ok := strings.CutPrefix(causation, "command:"); ok {
		return "a command from outside (" + id + ")"
	}
	if stream, name, ok := strings.Cut(causation, "/deadline/"); ok {
		return "deadline " + name + " of " + stream + ", which passed"
	}
	return causation
}

func printEvent(w io.Writer, e *courante.Event) error {
	fmt.Fprintf(w, "  %s\n", e.Type)
	t := NewTable("    id", e.ID())
	t.Row("    time", e.Time.Local().Format("2006-01-02 15:04:05.000000 MST"))
	t.Row("    correlation", e.Correlation)
	t.Row("    caused by", sentence(e.Causation))
	if id := traceID(e.Trace); id != "" {
		t.Row("    trace", id)
	}
	if n := e.Notes; n != nil {
		for _, d := range n.Set {
			t.Row("    deadline set", d.Name+" at "+d.Due.Local().Format("15:04:05.000"))
		}
		for _, name := range n.Clear {
			t.Row("    deadline met", name)
		}
		for _, r := range n.Ask {
			t.Row("    effect asked", r.Effect)
		}
	}
	t.Write(w)
	var data bytes.Buffer
	if err := json.Indent(&data, e.Data, "    ", "  "); err != nil {
		return fmt.Errorf("data of %s: %w", e.ID(), err)
	}
	_, err := fmt.Fprintf(w, "    %s\n\n", data.String())
	return err
}
