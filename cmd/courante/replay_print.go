package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante/cmd/courante/internal/replay"
)

// replayScreen is the line that says how far a replay is: one that changes on
// a terminal, one now and then in a log, none for programs.
type replayScreen struct {
	p     *program
	live  bool
	width int // of what is on the line now
	next  time.Duration
	calm  bool // nothing went wrong when last told
}

// logEvery is how often a log gets a line.
const logEvery = 10 * time.Second

func newReplayScreen(p *program) *replayScreen {
	return &replayScreen{p: p, live: isTerminal(p.stderr), next: logEvery, calm: true}
}

func (s *replayScreen) progress() func(replay.Progress) {
	if s.p.globals.JSON {
		return nil
	}
	return func(p replay.Progress) {
		if s.live {
			s.show(progressLine(p))
			return
		}
		if p.Elapsed >= s.next || s.calm && p.Trouble != "" {
			s.next = p.Elapsed + logEvery
			s.p.println(progressLine(p))
		}
		s.calm = p.Trouble == ""
	}
}

// show replaces what is on the line.
func (s *replayScreen) show(text string) {
	const most = 160 // a line that wraps cannot be replaced
	if r := []rune(text); len(r) > most {
		text = string(r[:most])
	}
	width := len([]rune(text))
	fmt.Fprintf(s.p.stderr, "\r%s%s", text, strings.Repeat(" ", max(0, s.width-width)))
	s.width = width
}

func (s *replayScreen) end() {
	if s.width > 0 {
		s.show("")
		fmt.Fprint(s.p.stderr, "\r")
	}
}

func progressLine(p replay.Progress) string {
	seconds := p.Elapsed.Seconds()
	var b strings.Builder
	if p.Stocked < p.ToStock {
		fmt.Fprintf(&b, "receiving stock: %s of %s SKUs, %s repeated", thousands(p.Stocked), thousands(p.ToStock), thousands(p.Repeated))
		if p.Trouble != "" {
			fmt.Fprintf(&b, ": %s", p.Trouble)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s of %s lines (%d%%), %s orders, %s under way", thousands(p.Lines), thousands(p.Total),
		100*p.Lines/max(p.Total, 1), thousands(p.Orders), thousands(p.UnderWay))
	if seconds >= 1 {
		fmt.Fprintf(&b, ", %s lines/s, %.0f orders/s", thousands(int(float64(p.Lines)/seconds)), float64(p.Orders)/seconds)
	}
	if p.Lines > 0 && p.Lines < p.Total && seconds >= 1 {
		left := time.Duration(seconds / float64(p.Lines) * float64(p.Total-p.Lines) * float64(time.Second))
		fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
	}
	fmt.Fprintf(&b, ", %s refused, %s repeated", thousands(p.Refused), thousands(p.Repeated))
	if p.Trouble != "" {
		fmt.Fprintf(&b, ": %s", p.Trouble)
	}
	return b.String()
}

func (p *program) printReplay(r *replay.Report) error {
	if p.globals.JSON {
		return p.printJSON(r)
	}
	fmt.Fprintf(p.stdout, "replay of %s (%s) to %s, %s\n\n", r.File, r.Format, r.URL, short(time.Duration(r.Seconds*float64(time.Second))))
	t := newTable("LINES", "")
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
			t.row(right(n), as.says)
			sum += n
		}
	}
	for _, refused := range r.Refused {
		text := "refused: " + refused.Says + ", first in line " + thousands(refused.First)
		if refused.Example != "" {
			text += " (" + refused.Example + ")"
		}
		t.row(right(refused.Lines), text)
		sum += refused.Lines
	}
	t.row(right(r.Merged), "merged")
	if r.BeyondLimit > 0 {
		t.row(right(r.BeyondLimit), "behind --limit")
	}
	if r.NotReached > 0 {
		t.row(right(r.NotReached), "not reached")
	}
	t.row(right(sum), "of "+thousands(r.Lines)+" in the file")
	t.write(p.stdout)
	p.printReplayEnds(r)
	return nil
}

func (p *program) printReplayEnds(r *replay.Report) {
	fmt.Fprintln(p.stdout)
	t := newTable("ORDERS", "")
	for _, status := range []string{"created", "reserved", "paid", "shipped", "cancelling", "confirmed", "returned", "cancelled"} {
		if n := r.Orders.ByStatus[status]; n > 0 {
			t.row(right(n), status)
		}
	}
	if r.Orders.Refused > 0 {
		t.row(right(r.Orders.Refused), "refused")
	}
	if n := r.Returns.Accepted; n > 0 {
		t.row(right(n), "returns accepted")
	}
	for _, cause := range slices.Sorted(maps.Keys(r.Returns.Refused)) {
		t.row(right(r.Returns.Refused[cause]), "returns refused: "+cause.Says())
	}
	if r.Stocked > 0 {
		t.row(right(r.Stocked), "SKUs received before the first order")
	}
	t.write(p.stdout)
	fmt.Fprintln(p.stdout)
	t = newTable("SPEED", "")
	if l := r.CreatedToConfirmed; l.N > 0 {
		t.row("created to confirmed", fmt.Sprintf("p50 %s, p95 %s, p99 %s", milliseconds(l.P50), milliseconds(l.P95), milliseconds(l.P99)))
	}
	t.row("rate", fmt.Sprintf("%s lines/s, %.1f orders/s", thousands(int(r.LinesPerS)), r.OrdersPerS))
	if r.Repeated > 0 {
		t.row("repeated", thousands(r.Repeated)+" requests that the system could not answer")
	}
	t.row("checks", r.Checks)
	t.write(p.stdout)
}

// right is a number that lines up with others above and below it.
func right[N int | int64](n N) string { return fmt.Sprintf("%9s", thousands(n)) }

func milliseconds(ms float64) string { return short(time.Duration(ms * float64(time.Millisecond))) }
