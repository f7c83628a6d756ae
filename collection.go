package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Collection is the documents that readers get of the states of one entity, a
// document for each state. It is read from the [Cache] of the runtime, if it has
// one, and otherwise made from the source of truth each time.
//
// A document in the cache follows its state at a distance, of milliseconds as a
// rule. Who needs to see what he wrote has a [Token].
type Collection struct {
	svc      *Service
	name     string
	version  int
	category string
	load     func(ctx context.Context, id string) (Document, error)
}

// NewCollection declares a collection. view makes of a state and the events of
// its stream what is shown of it, as a value for JSON; ErrNotFound shows nothing.
// It depends on nothing else. version is raised, from 1 on, when view changes.
func NewCollection[S any](e *Entity[S], name string, version int, view func(id string, state S, history []Event) (any, error)) *Collection {
	c := &Collection{svc: e.svc, name: name, version: version, category: e.category}
	c.load = func(ctx context.Context, id string) (Document, error) {
		state, history, err := e.GetHistory(ctx, id)
		if err != nil {
			return Document{}, err
		}
		d := Document{ID: id, Version: int64(len(history)), Seen: seen(history)}
		shown, err := view(id, state, history)
		if errors.Is(err, ErrNotFound) {
			return d, nil
		}
		if err == nil {
			d.Data, err = json.Marshal(shown)
		}
		if err != nil {
			return Document{}, fmt.Errorf("document %s of %s:%s: %w", name, e.category, id, err)
		}
		return d, nil
	}
	switch {
	case !projectionName.MatchString(name):
		e.svc.problem("collection %q: the name must be of lower-case letters, digits and _, and begin with a letter", name)
	case version < 1:
		e.svc.problem("collection %s: version is %d; versions begin at 1", name, version)
	case !e.sourced:
		e.svc.problem("collection %s: states of %s are stored, and have no history to make it of", name, e.category)
	}
	for _, other := range e.svc.collections {
		if other.name == name {
			e.svc.problem("collection %s is declared twice", name)
		}
	}
	e.svc.collections = append(e.svc.collections, c)
	return c
}

// mostSeen bounds what a document remembers of the transactions it saw. Who has
// the token of an older one asks the source of truth.
const mostSeen = 16

func seen(history []Event) []Seen {
	var list []Seen
	for i := range history {
		s := Seen{history[i].Epoch, history[i].Xid}
		if s.Xid != 0 && (len(list) == 0 || list[len(list)-1] != s) {
			list = append(list, s)
		}
	}
	return list[max(0, len(list)-mostSeen):]
}

// Name is the collection's name within its service.
func (c *Collection) Name() string { return c.name }

// Get returns the document of the state with that id, at least as fresh as the
// command that gave the token, as [Service.Read] has it: for that it may have to
// go to the source of truth, and to wait. ErrNotFound if there is nothing to
// show.
func (c *Collection) Get(ctx context.Context, id, token string, wait time.Duration) (Document, error) {
	load := func(ctx context.Context) (Document, error) { return c.load(ctx, id) }
	if cache := c.cache(); cache != nil {
		d, err := cache.Get(ctx, c.full(), id, load)
		if token == "" {
			return c.shown(d, err)
		}
		t, bad := ParseToken(token)
		if err == nil && bad == nil && d.saw(c.svc.name, t) {
			return c.shown(d, nil)
		}
	}
	var d Document
	err := c.svc.Read(ctx, token, wait, func() (err error) {
		d, err = c.shown(load(ctx))
		return err
	})
	return d, err
}

func (c *Collection) shown(d Document, err error) (Document, error) {
	if err == nil && len(d.Data) == 0 {
		err = fmt.Errorf("%s %q: %w", c.category, d.ID, ErrNotFound)
	}
	return d, err
}

// cache is that of the runtime, nil if it has none.
func (c *Collection) cache() Cache {
	if c.svc.node == nil {
		return nil
	}
	return c.svc.node.rt.cfg.Cache
}

// full is the collection's name in the cache, where a new version begins empty.
func (c *Collection) full() string { return fmt.Sprintf("%s/%s@%d", c.svc.name, c.name, c.version) }
