package app

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Thousands writes 12345 as "12,345".
func Thousands[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Short is a duration as people say it.
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1ms"
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// quote makes a word for a shell of it.
func quote(word string) string {
	if strings.ContainsAny(word, " \t\n'\"\\$`&|;<>()*?[]#~!") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// framework is the name by which texts call the program.
const framework = "courante"

// own writes a text of the framework as this program would say it. Texts call
// commands "courante NAME", because that is what those read who look a message
// up; a program of another name has them under its own.
func (p *Program) own(text string) string {
	if p.commands == nil || p.app.Name == framework {
		return text
	}
	return p.commands.ReplaceAllString(text, p.call()+" $1")
}

// call is how a person has called the program: "go run" leaves no program that
// has its name.
func (p *Program) call() string {
	file, err := os.Executable()
	if err == nil && strings.Contains(filepath.Dir(file), "go-build") && !strings.HasSuffix(file, ".test") {
		return "go run ."
	}
	return p.app.Name
}

// learn makes the help this program's own: its name, and in the examples events
// and services that it has.
func (p *Program) learn(k *kong.Kong) error {
	var commands []string
	for _, child := range k.Model.Children {
		commands = append(commands, regexp.QuoteMeta(child.Name))
	}
	var err error
	if p.commands, err = regexp.Compile(`\b` + framework + ` (` + strings.Join(commands, "|") + `|--help)\b`); err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	examples := strings.NewReplacer(p.examples()...)
	var teach func(n *kong.Node)
	teach = func(n *kong.Node) {
		n.Help, n.Detail = examples.Replace(p.own(n.Help)), examples.Replace(p.own(n.Detail))
		for _, v := range n.Positional {
			v.Help = examples.Replace(p.own(v.Help))
		}
		for _, f := range n.Flags {
			f.Help = examples.Replace(p.own(f.Help))
		}
		for _, child := range n.Children {
			teach(child)
		}
	}
	teach(k.Model.Node)
	return nil
}

// examples are what stands for {log}, {event}, {stream}, {subscriber} and
// {projection} in help texts: a log, an event type of it, a stream of it, a
// service that reacts to events of that log, or the last one if none does, and
// a projection with its service.
func (p *Program) examples() []string {
	log, event, stream, subscriber, projection := "orders", "orders.placed", "order:first", "payments", "orders order_list"
	services := p.app.Declare()
	if len(services) > 0 {
		first := services[0]
		log, subscriber = first.Name(), services[len(services)-1].Name()
		if categories := first.Categories(); len(categories) > 0 {
			stream = categories[0] + ":first"
		}
		if events := first.Events(); len(events) > 0 {
			event = events[0].Name
		}
	}
	for _, s := range services {
		if list := s.Projections(); len(list) > 0 {
			projection = s.Name() + " " + list[0].Name
			break
		}
	}
	return []string{"{log}", log, "{event}", event, "{stream}", stream, "{subscriber}", subscriber, "{projection}", projection}
}
