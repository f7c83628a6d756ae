package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

type topCommand struct {
	Once    bool     `help:"Print one frame and end."`
	Program []string `placeholder:"URL" env:"COURANTE_PROGRAMS" help:"Where a program answers, such as http://10.0.0.7:8080; several times for several. By default those of the data folder (${env})."`
}

// Help teaches by example.
func (topCommand) Help() string {
	return `The first lines say what is wrong, worst first, and which command helps. q or Ctrl-C ends it.

PENDING counts events that a service has not handled, OLDEST is the age of the first of them. Of a saga, p50, p95 and p99 are of those that ended in the last minute, and of all since the program started until one did. What stands between the two is told by the database alone, also while no program runs; the rest needs the programs' /metrics.

Examples:

  courante top
  courante top --once
  courante top --json | jq '.problems[].text'
  courante top --program http://10.0.0.7:8080 --program http://10.0.0.8:8080`
}

const topEvery = time.Second

// Run shows a frame a second until ctx ends.
func (c *topCommand) Run(ctx context.Context, p *Program) error {
	s, err := newSampler(p, c.Program)
	if err != nil {
		return err
	}
	defer s.close()
	every := time.NewTicker(topEvery)
	defer every.Stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	show, restore, err := c.output(p, leave)
	if err != nil {
		return err
	}
	defer restore()
	s.sample(ctx) // rates need two
	if err := s.newest().database; wrongDatabase(err) {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-show.resized:
		case <-every.C:
			s.sample(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := show.frame(s.top()); err != nil {
			return err
		}
		if c.Once {
			return nil
		}
	}
}

// screenOutput is where frames go.
type screenOutput struct {
	frame   func(*Top) error
	resized chan os.Signal
}

// output is JSON lines, a terminal that is taken over, or, for a pipe or one
// frame, plain text. leave is called when a person wants to.
func (c *topCommand) output(p *Program, leave func()) (out screenOutput, restore func(), err error) {
	restore = func() {}
	file, _ := p.Stdout.(*os.File)
	color := IsTerminal(p.Stdout) && os.Getenv("NO_COLOR") == ""
	switch {
	case p.Globals.JSON:
		out.frame = func(t *Top) error { return p.PrintJSON(t) }
		return out, restore, nil
	case c.Once || !IsTerminal(p.Stdout) || !IsTerminal(p.Stderr):
		width := width(p)
		out.frame = func(t *Top) error {
			_, err := io.WriteString(p.Stdout, p.own(strings.Join(t.render(width, 0, color), "\n"))+"\n")
			return err
		}
		return out, restore, nil
	}
	out.resized = make(chan os.Signal, 1)
	signal.Notify(out.resized, syscall.SIGWINCH)
	keys := func() {}
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		state, err := term.MakeRaw(stdin)
		if err != nil {
			return out, restore, fmt.Errorf("take the terminal over: %w", err)
		}
		keys = func() { _ = term.Restore(stdin, state) } // nothing else can be done for it
		go readKeys(os.Stdin, leave)
	}
	const enter, back = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l" // other screen, no cursor; and back
	fmt.Fprint(file, enter)
	restore = func() {
		signal.Stop(out.resized)
		fmt.Fprint(file, back)
		keys()
	}
	out.frame = func(t *Top) error {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return fmt.Errorf("ask the terminal for its size: %w", err)
		}
		// From the top left, each line up to its end and the rest of it erased,
		// and then what is below: nothing is cleared first, so nothing flickers.
		lines := t.render(width, height, color)
		_, err = file.WriteString("\x1b[H" + p.own(strings.Join(lines, "\x1b[K\r\n")) + "\x1b[K\x1b[J")
		return err
	}
	return out, restore, nil
}

// readKeys waits until a person wants to leave: in raw mode Ctrl-C is a key. It
// ends with the process, because nothing interrupts a read of the terminal.
func readKeys(keys io.Reader, leave func()) {
	buf := make([]byte, 1)
	for {
		if _, err := keys.Read(buf); err != nil || buf[0] == 'q' || buf[0] == 'Q' || buf[0] == 3 {
			leave()
			return
		}
	}
}
