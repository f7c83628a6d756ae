package app

import (
	"fmt"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
)

type routesCommand struct{}

// Help teaches by example.
func (routesCommand) Help() string {
	return `An event type declares what delivery it needs; the router chooses the transport. This needs no running system.

Examples:

  courante routes
  courante routes --json | jq 'select(.need == "critical") | .type'`
}

// Run prints one line an event type and receiver.
func (routesCommand) Run(p *Program) error {
	services := p.app.Declare()
	routes := courante.Routes(services, 0)
	if p.Globals.JSON {
		for _, r := range routes {
			if err := p.PrintJSON(r); err != nil {
				return err
			}
		}
		for _, svc := range services {
			for _, typ := range svc.InboundTypes() {
				if err := p.PrintJSON(inboundRoute{typ, svc.Name()}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	t := NewTable("EVENT", "FROM", "NEED", "BY", "TO", "LANES", "DOES")
	var reasons []string
	for _, r := range routes {
		if why := fmt.Sprintf("%-9s %-4s %s", r.Need, r.Transport, general(r)); !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
		lead := []string{r.Name, r.From, r.Need.String(), r.Transport}
		if len(r.To) == 0 && !r.Watched {
			t.Row(append(lead, "-", "", "")...)
		}
		for _, to := range r.To {
			t.Row(append(lead, to.Service, fmt.Sprint(to.Lanes), strings.Join(to.Steps, "; "))...)
			lead = []string{"", "", "", ""} // said once
		}
		if r.Watched {
			t.Row(append(lead, "watchers", "", "told live, while they watch the state")...)
		}
	}
	t.Write(p.Stdout)
	fmt.Fprint(p.Stdout, "\nWHY\n")
	for _, why := range reasons {
		fmt.Fprintln(p.Stdout, why)
	}
	if slices.ContainsFunc(routes, func(r courante.Route) bool { return r.Watched }) {
		fmt.Fprintln(p.Stdout, "watchers       are told what their process finds at the end of the log, and with --redis what another one found first; what both miss is read")
	}
	p.printInbound(services)
	return nil
}

// inboundRoute is a type of CloudEvent from outside, as --json prints it.
type inboundRoute struct {
	Inbound string `json:"inbound"`
	Service string `json:"service"`
}

// printInbound tells what programs outside may send.
func (p *Program) printInbound(services []*courante.Service) {
	t := NewTable("FROM OUTSIDE", "TO", "BY")
	rows := 0
	for _, svc := range services {
		for _, typ := range svc.InboundTypes() {
			t.Row(typ, svc.Name(), "CloudEvents over RabbitMQ, once by source and id")
			rows++
		}
	}
	if rows > 0 {
		fmt.Fprintln(p.Stdout)
		t.Write(p.Stdout)
	}
}

// general is a route's reason without the name of its service, so that it is
// said once and not once for every context.
func general(r courante.Route) string {
	return strings.ReplaceAll(strings.ReplaceAll(r.Why, "private to "+r.From+":", "private to its context:"), "only its own lanes", "only its context's own lanes")
}
