package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante/cmd/courante/internal/replay"

	"github.com/courante-dev/courante/app"
)

// replayProgress tells on the screen how far a replay is, and at once when
// something goes wrong.
func replayProgress(screen *app.Screen) func(replay.Progress) {
	calm := true
	return func(p replay.Progress) {
		screen.Say(p.Elapsed, calm && p.Trouble != "", progressLine(p))
		calm = p.Trouble == ""
	}
}

func progressLine(p replay.Progress) string {
	seconds := p.Elapsed.Seconds()
	var b strings.Builder
	if p.Stocked < p.ToStock {
		fmt.Fprintf(&b, "receiving stock: %s of %s SKUs, %s repeated", app.Thousands(p.Stocked), app.Thousands(p.ToStock), app.Thousands(p.Repeated))
		if p.Trouble != "" {
			fmt.Fprintf(&b, ": %s", p.Trouble)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s of %s lines (%d%%), %s orders, %s under way", app.Thousands(p.Lines), app.Thousands(p.Total),
		100*p.Lines/max(p.Total, 1), app.Thousands(p.Orders), app.Thousands(p.UnderWay))
	if seconds >= 1 {
		fmt.Fprintf(&b, ", %s lines/s, %.0f orders/s", app.Thousands(int(float64(p.Lines)/seconds)), float64(p.Orders)/seconds)
	}
	if p.Lines > 0 && p.Lines < p.Total && seconds >= 1 {
		left := time.Duration(seconds / float64(p.Lines) * float64(p.Total-p.Lines) * float64(time.Second))
		fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
	}
	fmt.Fprintf(&b, ", %s refused, %s repeated", app.Thousands(p.Refused), app.Thousands(p.Repeated))
	if p.Trouble != "" {
		fmt.Fprintf(&b, ": %s", p.Trouble)
	}
	return b.String()
}

func printReplay(p *app.Program, r *replay.Report) error {
	if p.Globals.JSON {
		return p.PrintJSON(r)
	}
	fmt.Fprintf(p.Stdout, "replay of %s (%s) to %s, %s\n\n", r.File, r.Format, r.URL, app.Short(time.Duration(r.Seconds*float64(time.Second))))
	t := app.NewTable("LINES", "")
	sum := r.Merged + r.BeyondLimit + r.NotReached
	for _, as := range []struct{ name, says string }{
		{"order_line", "accepted as order lines"},
		{"charge_line", "accepted as charges of orders"},
		{"return", "accepted as returns"},
		{"return_in_part", "accepted as returns of a part: the rest was not there to return"},
		{"adjustment", "accepted as stock adjustments"},
		{"order", "accepted as orders"},
		{"cancellation", "accepted as cancellations"},
		{"receipt", "accepted as stock receipts"},
	} {
		if n := r.Accepted[as.name]; n > 0 {
			t.Row(right(n), as.says)
			sum += n
		}
	}
	for _, refused := range r.Refused {
		text := "refused: " + refused.Says + ", first in line " + app.Thousands(refused.First)
		if refused.Example != "" {
			text += " (" + refused.Example + ")"
		}
		t.Row(right(refused.Lines), text)
		sum += refused.Lines
	}
	t.Row(right(r.Merged), "merged")
	if r.BeyondLimit > 0 {
		t.Row(right(r.BeyondLimit), "behind --limit")
	}
	if r.NotReached > 0 {
		t.Row(right(r.NotReached), "not reached")
	}
	t.Row(right(sum), "of "+app.Thousands(r.Lines)+" in the file")
	t.Write(p.Stdout)
	printReplayEnds(p, r)
	return nil
}

func printReplayEnds(p *app.Program, r *replay.Report) {
	fmt.Fprintln(p.Stdout)
	t := app.NewTable("ORDERS", "")
	for _, status := range []string{"created", "reserved", "paid", "shipped", "cancelling", "confirmed", "returned", "cancelled"} {
		if n := r.Orders.ByStatus[status]; n > 0 {
			t.Row(right(n), status)
		}
	}
	if r.Orders.Refused > 0 {
		t.Row(right(r.Orders.Refused), "refused")
	}
	if n := r.Returns.Accepted; n > 0 {
		t.Row(right(n), "returns accepted")
	}
	for _, cause := range slices.Sorted(maps.Keys(r.Returns.Refused)) {
		t.Row(right(r.Returns.Refused[cause]), "returns refused: "+cause.Says())
	}
	if r.Stocked > 0 {
		t.Row(right(r.Stocked), "SKUs received before the first order")
	}
	t.Write(p.Stdout)
	fmt.Fprintln(p.Stdout)
	t = app.NewTable("SPEED", "")
	if l := r.CreatedToConfirmed; l.N > 0 {
		t.Row("created to confirmed", fmt.Sprintf("p50 %s, p95 %s, p99 %s", milliseconds(l.P50), milliseconds(l.P95), milliseconds(l.P99)))
	}
	t.Row("rate", fmt.Sprintf("%s lines/s, %.1f orders/s", app.Thousands(int(r.LinesPerS)), r.OrdersPerS))
	if r.Repeated > 0 {
		t.Row("repeated", app.Thousands(r.Repeated)+" requests that the system could not answer")
	}
	t.Row("checks", r.Checks)
	t.Write(p.Stdout)
}

// right is a number that lines up with others above and below it.
func right[N int | int64](n N) string { return fmt.Sprintf("%9s", app.Thousands(n)) }

func milliseconds(ms float64) string { return app.Short(time.Duration(ms * float64(time.Millisecond))) }
