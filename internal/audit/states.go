package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// storedState is a row of the stored states of a context.
type storedState struct {
	of      string // what it is read by, as that of an event
	stream  string
	row     int64
	version int64
	data    []byte
	open    []byte
	table   string
}

func (s storedState) key() string  { return s.of }
func (s storedState) name() string { return s.table + " " + s.stream }

const stateColumns = "stream, row_version, version, data::text, open::text"

// openStored reads stored states of a category by their ids.
func (a *auditor) openStored(ctx context.Context, l *eventLog, category string) (*cursor[storedState], error) {
	return openStates(ctx, a.q, l, "audit "+l.name+" states "+category, fmt.Sprintf("select substr(stream, %d), %s from %s.state where %s order by stream",
		len(category)+2, stateColumns, l.schema, inCategory("stream", category)))
}

// openStoredReturns reads stored states of returns by the ids of their orders.
func (a *auditor) openStoredReturns(ctx context.Context, l *eventLog) (*cursor[storedState], error) {
	return openStates(ctx, a.q, l, "audit "+l.name+" states of returns", fmt.Sprintf(
		`select coalesce(r.of, ''), %s from %s.state left join %s using (stream) where %s order by coalesce(r.of, '') collate "C", stream`,
		stateColumns, l.schema, a.ofReturns(), inCategory("stream", returnCategory)))
}

func openStates(ctx context.Context, q Querier, l *eventLog, name, sql string) (*cursor[storedState], error) {
	return open(ctx, q, name, sql, func(row pgx.CollectableRow) (storedState, error) {
		s := storedState{table: l.label + ".state"}
		return s, row.Scan(&s.of, &s.stream, &s.row, &s.version, &s.data, &s.open)
	})
}

// checkStates compares what inventory has stored of an order and of its returns
// with their events.
func (a *auditor) checkStates(d *dossier) {
	rows := map[string]*storedState{}
	for i := range d.stored {
		rows[d.stored[i].stream] = &d.stored[i]
	}
	for i := range d.threads {
		t := &d.threads[i]
		stream := orderCategory[inventory] + ":" + d.id
		if t.returned != "" {
			stream = returnCategory + ":" + t.returned
		}
		row := rows[stream]
		delete(rows, stream)
		if row == nil {
			if len(t.events[inventory]) > 0 {
				a.checks.states.wrong(a.logs[names[inventory]].label+".state "+stream, "it is missing")
			}
			continue
		}
		a.checkStored(row, t.events[inventory], &t.pending[inventory])
		a.checkReservation(d, t, row)
	}
	for _, row := range rows {
		a.checks.states.wrong(row.name(), "it has no events")
	}
}

// checkReservation checks what is set aside for an order, or remembered of a
// return.
func (a *auditor) checkReservation(d *dossier, t *thread, row *storedState) {
	c := a.checks.states
	var r struct {
		Items []struct {
			SKU      string `json:"sku"`
			Quantity int64  `json:"quantity"`
		} `json:"items"`
		Past []string `json:"past"`
	}
	if err := readJSON(row.data, &r); err != nil {
		c.wrong(row.name(), "it cannot be read: %v", err)
		return
	}
	f := &d.facts
	want := map[string]int64{}
	if t.returned == "" && f.reserved != nil && f.released == nil && f.issued == nil {
		want = f.created.wanted()
	}
	got := map[string]int64{}
	for _, it := range r.Items {
		got[it.SKU] += it.Quantity
	}
	if !maps.Equal(got, want) {
		c.wrong(row.name(), "it holds %v, and the log says %v", got, want)
	}
	var past []string
	for _, e := range t.events[inventory] {
		if !slices.Contains(past, e.typ) {
			past = append(past, e.typ)
		}
	}
	if !slices.Equal(r.Past, past) {
		c.wrong(row.name(), "it says that %v happened, and the log says %v", r.Past, past)
	}
}

// checkStored checks what every stored state has in common.
func (a *auditor) checkStored(row *storedState, stream []event, p *pending) {
	c := a.checks.states
	c.LookedAt++
	if row.version != int64(len(stream)) {
		c.wrong(row.name(), "it is at version %d, and its stream has %d events", row.version, len(stream))
	}
	if row.row < 1 {
		c.wrong(row.name(), "its row version is %d", row.row)
	}
	a.checkWaits(row.name(), row.open, p)
}

// checkWaits compares what a state says is open with the notes of its stream.
func (a *auditor) checkWaits(name string, text []byte, p *pending) {
	var o struct {
		Deadlines []struct{ Name string } `json:"deadlines"`
		Effects   []struct{ ID string }   `json:"effects"`
	}
	if text != nil {
		if err := readJSON(text, &o); err != nil {
			a.checks.states.wrong(name, "what it waits for cannot be read: %v", err)
			return
		}
	}
	var got, want []string
	for _, d := range o.Deadlines {
		got = append(got, "deadline "+d.Name)
	}
	for _, e := range o.Effects {
		got = append(got, "effect "+e.ID)
	}
	for _, d := range p.deadlines {
		want = append(want, "deadline "+d.name)
	}
	for _, e := range p.effects {
		want = append(want, "effect "+e.id)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		a.checks.states.wrong(name, "it waits for %v, and the log says %v", got, want)
	}
}
