package courante

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Mermaid draws the saga as a Mermaid flowchart, the same text each time: a
// box for each service, its steps inside it, and the events between them. Dashed
// arrows are the way back (failures, deadlines, compensations), a clock marks a
// step that a deadline runs, rounded boxes are commands, hexagons are answers
// from the outside, slanted boxes are events that many steps emit, circles are
// the ends, and the thick border is the pivot.
func (g *SagaGraph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for n, service := range g.Services {
		fmt.Fprintf(&b, "  subgraph g%d[\"%s\"]\n", n, service)
		for i, st := range g.Steps {
			if st.Service == service {
				fmt.Fprintf(&b, "    s%d%s\n", i, st.shape())
			}
		}
		b.WriteString("  end\n")
	}
	for i, typ := range g.ends() {
		mark := "✔"
		if slices.Contains(g.Compensated, typ) {
			mark = "↩"
		}
		fmt.Fprintf(&b, "  e%d((\"%s<br>%s\"))\n", i, mark, short(typ))
	}
	for _, a := range g.arrows() {
		line := "-->"
		if a.fails {
			line = "-.->"
		}
		if a.label != "" {
			line += "|" + a.label + "|"
		}
		fmt.Fprintf(&b, "  %s %s %s\n", a.from, line, a.to)
	}
	b.WriteString("  classDef pivot stroke-width:4px\n  classDef undo stroke-dasharray:4 3\n")
	for i, st := range g.Steps {
		switch {
		case st.Pivot:
			fmt.Fprintf(&b, "  class s%d pivot\n", i)
		case st.Undoes != "":
			fmt.Fprintf(&b, "  class s%d undo\n", i)
		}
	}
	return b.String()
}

func (g *SagaGraph) ends() []string { return append(slices.Clone(g.Completed), g.Compensated...) }

// shape is the node of a step: its form tells what runs it.
func (st SagaStep) shape() string {
	text := strings.ReplaceAll(st.Name, `"`, "'")
	if st.Undoes != "" {
		text += "<br>undoes: " + strings.ReplaceAll(st.Undoes, `"`, "'")
	}
	if st.Pivot {
		text = "◆ " + text
	}
	switch st.On {
	case "deadline":
		return `["⏰ ` + text + `"]`
	case "effect":
		return `{{"` + text + `"}}`
	case "command":
		return `(["` + text + `"])`
	default:
		return `["` + text + `"]`
	}
}

type sagaArrow struct {
	from, to, label string
	fails           bool
}

// arrows draws the edges. Where several steps emit an event that several react
// to, or more than two that one does, an arrow for each pair would bury the
// picture: the event gets a node of its own, and each step one arrow.
func (g *SagaGraph) arrows() []sagaArrow {
	from, to := map[string][]int{}, map[string][]int{}
	for _, e := range g.Edges {
		if e.Kind != "event" {
			continue
		}
		if !slices.Contains(from[e.Name], e.From) {
			from[e.Name] = append(from[e.Name], e.From)
		}
		if !slices.Contains(to[e.Name], e.To) {
			to[e.Name] = append(to[e.Name], e.To)
		}
	}
	var arrows []sagaArrow
	add := func(a sagaArrow) {
		for i := range arrows {
			if have := &arrows[i]; have.from == a.from && have.to == a.to && have.label == a.label {
				have.fails = have.fails && a.fails
				return
			}
		}
		arrows = append(arrows, a)
	}
	node := func(e SagaEdge) string {
		if e.To < 0 {
			return fmt.Sprintf("e%d", slices.Index(g.ends(), e.Name))
		}
		return fmt.Sprintf("s%d", e.To)
	}
	for _, e := range g.Edges {
		label := short(e.Name)
		switch e.Kind {
		case "effect":
			label = "calls " + e.Name
		case "deadline":
			label = "⏰ " + e.Name
		}
		source := fmt.Sprintf("s%d", e.From)
		if n := len(from[e.Name]); e.Kind == "event" && n > 1 && n+len(to[e.Name]) > 3 {
			hub := "x_" + strings.NewReplacer(".", "_", "-", "_", "/", "_").Replace(e.Name) + "[/" + short(e.Name) + "/]"
			add(sagaArrow{source, hub, "", e.Fails})
			add(sagaArrow{hub, node(e), "", e.Fails})
			continue
		}
		add(sagaArrow{source, node(e), label, e.Fails})
	}
	return arrows
}

// Text draws the saga as a table for terminals: a line for each outcome of each
// step, service by service.
func (g *SagaGraph) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "saga %s of %s: starts with %s, completed by %s", g.Name, g.Owner, short(g.Starts), strings.Join(shorts(g.Completed), " or "))
	if len(g.Compensated) > 0 {
		fmt.Fprintf(&b, ", compensated by %s", strings.Join(shorts(g.Compensated), " or "))
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tON\tDOES\tUNDONE BY\tUNTIL")
	for _, service := range g.Services {
		fmt.Fprintf(w, "%s\t\t\t\t\n", service)
		for i := range g.Steps {
			if g.Steps[i].Service == service {
				g.row(w, i)
			}
		}
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// row writes a step: its first outcome beside its name, the others below.
func (g *SagaGraph) row(w *tabwriter.Writer, i int) {
	st := g.Steps[i]
	name, on := "  "+st.Name, st.On+" "+st.Trigger
	switch st.On {
	case "event":
		on = short(st.Trigger)
	case "command":
		on = "command"
	}
	if st.Pivot {
		name += " (pivot)"
	}
	undone := g.undoneBy(i)
	line := func(does, until string) {
		by := ""
		if len(undone) > 0 {
			by, undone = undone[0], undone[1:]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, on, does, by, until)
		name, on = "", ""
	}
	outcomes := st.Outcomes
	if len(outcomes) == 0 {
		outcomes = []Outcome{{}} // a step that only looks
	}
	for _, o := range outcomes {
		until := g.until(st, o)
		for _, text := range wrap(o.sentence(), 56) {
			line(text, until)
			until = ""
		}
	}
	for len(undone) > 0 {
		line("", "")
	}
}

// sentence says what the outcome does and when it is the one.
func (o Outcome) sentence() string {
	o.Sets = nil // they have a column of their own
	var conditions []string
	for _, typ := range o.When {
		conditions = append(conditions, short(typ))
	}
	for _, typ := range o.Unless {
		conditions = append(conditions, "not "+short(typ))
	}
	text := o.String()
	if len(conditions) > 0 {
		text = "if " + strings.Join(conditions, ", ") + ": " + text
	}
	if o.Fails {
		text = "fails: " + text
	}
	return text
}

// wrap breaks a text into lines of about width; the first begins with a dash.
func wrap(text string, width int) []string {
	lines := []string{"-"}
	for _, word := range strings.Fields(text) {
		if last := &lines[len(lines)-1]; len(*last)+1+len(word) <= width || *last == "-" {
			*last += " " + word
		} else {
			lines = append(lines, "  "+word)
		}
	}
	return lines
}

func (g *SagaGraph) undoneBy(i int) []string {
	var names []string
	for _, other := range g.Steps {
		for j := range g.Steps {
			if alike(g.nodes[i], g.nodes[j]) && other.Service == g.Steps[j].Service && other.Undoes == g.Steps[j].Name && !slices.Contains(names, other.Name) {
				names = append(names, other.Name)
			}
		}
	}
	return names
}

// until says what bounds the wait that an outcome begins.
func (g *SagaGraph) until(st SagaStep, o Outcome) string {
	var until []string
	for _, name := range o.Sets {
		until = append(until, "deadline "+name)
	}
	for _, other := range g.Steps {
		if other.Service == st.Service && other.Forever && slices.Contains(o.Asks, other.Trigger) {
			until = append(until, other.Trigger+" answers")
		}
	}
	return strings.Join(until, ", ")
}
