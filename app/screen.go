package app

import (
	"fmt"
	"strings"
	"time"
)

// Screen is the line that says how far long work is: one that changes on a
// terminal, one now and then in a log, none for programs.
type Screen struct {
	p     *Program
	live  bool
	width int // of what is on the line now
	next  time.Duration
}

// logEvery is how often a log gets a line.
const logEvery = 10 * time.Second

// Screen makes the line of a command.
func (p *Program) Screen() *Screen {
	return &Screen{p: p, live: IsTerminal(p.Stderr), next: logEvery}
}

// Say tells how far the work is after so long. urgent is for what a log must
// not wait for.
func (s *Screen) Say(elapsed time.Duration, urgent bool, line string) {
	switch {
	case s.p.Globals.JSON:
	case s.live:
		s.show(line)
	case elapsed >= s.next || urgent:
		s.next = elapsed + logEvery
		s.p.Println(line)
	}
}

// show replaces what is on the line.
func (s *Screen) show(text string) {
	const most = 160 // a line that wraps cannot be replaced
	if r := []rune(text); len(r) > most {
		text = string(r[:most])
	}
	width := len([]rune(text))
	fmt.Fprintf(s.p.Stderr, "\r%s%s", text, strings.Repeat(" ", max(0, s.width-width)))
	s.width = width
}

// End clears the line.
func (s *Screen) End() {
	if s.width > 0 {
		s.show("")
		fmt.Fprint(s.p.Stderr, "\r")
	}
}
