package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// From when on things are worth a line. They pass by themselves below.
const (
	topLate        = 10 * time.Second // an event that nobody handled
	topTransaction = time.Minute      // a transaction that holds back vacuum
	topFull        = 0.9              // of connections and disk
)

// judge lists what is wrong, worst first: what loses time for everybody, then
// what waits for a person, then what may pass.
func (t *Top) judge() {
	severe := func(command, format string, args ...any) {
		t.Problems = append(t.Problems, TopProblem{true, fmt.Sprintf(format, args...), command})
	}
	warn := func(command, format string, args ...any) {
		t.Problems = append(t.Problems, TopProblem{false, fmt.Sprintf(format, args...), command})
	}
	if d := &t.Database; d.Error != "" {
		severe("", "PostgreSQL does not answer, so nothing is accepted and nothing goes on: %s", lastCause(d.Error))
	}
	answered := 0
	for _, p := range t.Programs {
		if p.Error == "" {
			answered++
		} else {
			severe("courante up", "no program answers at %s: %s", p.URL, lastCause(p.Error))
		}
	}
	if len(t.Programs) == 0 {
		warn("courante top --program http://HOST:PORT", "it is not known where a program answers, so only the database is looked at")
	}
	for _, s := range t.Services {
		if s.Stopped {
			severe("courante subscriber list", "%s has stopped for good: its log was restored, or it is retired", s.Service)
		}
	}
	t.judgeServices(severe, warn)
	t.judgeEffects(warn)
	t.judgeDatabase(severe, warn)
	for _, s := range t.Sagas {
		if s.Overdue > 0 {
			warn("courante saga show ID", "%s %s overdue%s", Thousands(s.Overdue), plural(s.Overdue, s.Saga+" is", s.Saga+"s are"), s.worth("overdue"))
		}
	}
	slices.SortStableFunc(t.Problems, func(a, b TopProblem) int {
		switch {
		case a.Severe == b.Severe:
			return 0
		case a.Severe:
			return -1
		}
		return 1
	})
	switch {
	case len(t.Problems) == 0:
		t.State = "healthy"
	case t.Problems[0].Severe:
		t.State = "broken"
	default:
		t.State = "degraded"
	}
	if t.Problems == nil {
		t.Problems = []TopProblem{}
	}
}

func (t *Top) judgeServices(severe, warn func(command, format string, args ...any)) {
	for _, s := range t.Services {
		if s.Waiting > 0 {
			severe("courante deadletter list", "%s of %s %s for a person%s%s", Thousands(s.Waiting)+plural(s.Waiting, " message", " messages"),
				s.Service, plural(s.Waiting, "waits", "wait"), t.behind(s), t.cost("parked"))
		}
		if s.Paused > 0 {
			severe("", "%s cannot go on for now and tries again%s", s.Service, t.cost("paused"))
		}
		if s.Retried > 0 {
			warn("courante deadletter list --all", "%s of %s failed and %s tried again by %s", Thousands(s.Retried)+plural(s.Retried, " message", " messages"),
				s.Service, plural(s.Retried, "is", "are"), plural(s.Retried, "itself", "themselves"))
		}
		if s.Oldest > topLate.Seconds() && !s.Stopped && t.Database.Error == "" {
			warn("courante subscriber list", "%s is %s behind (%s events)", s.Service, Short(inSeconds(s.Oldest)), Thousands(s.Pending))
		}
	}
}

func (t *Top) behind(s TopService) string {
	if s.Behind == 0 {
		return ""
	}
	return fmt.Sprintf(", %s behind", Thousands(s.Behind))
}

// cost is what a cause delays, of all sagas.
func (t *Top) cost(cause string) string {
	var text strings.Builder
	for _, s := range t.Sagas {
		if n := s.Delayed[cause]; n > 0 {
			fmt.Fprintf(&text, "; %s %s delayed%s", Thousands(n), plural(n, s.Saga+" is", s.Saga+"s are"), s.worth(cause))
		}
	}
	return text.String()
}

// worth is how much depends on the sagas that a cause holds up.
func (s *TopSaga) worth(cause string) string {
	var values []string
	for unit, amount := range s.Value[cause] {
		values = append(values, fmt.Sprintf("%s %s", unit, Thousands(int64(amount))))
	}
	if slices.Sort(values); len(values) == 0 {
		return ""
	}
	return " (" + strings.Join(values, ", ") + " in minor units)"
}

func (t *Top) judgeEffects(warn func(command, format string, args ...any)) {
	for _, e := range t.Effects {
		if e.Breaker {
			warn("", "the party behind %s of %s does not answer: %s %s, the oldest for %s; tried again until it does%s",
				e.Effect, e.Service, Thousands(e.Open), plural(e.Open, "call waits", "calls wait"), Short(inSeconds(e.Oldest)), t.cost("breaker"))
		}
	}
}

func (t *Top) judgeDatabase(severe, warn func(command, format string, args ...any)) {
	d := &t.Database
	if d.Error == "" && d.OldestSeconds > topTransaction.Seconds() {
		command := ""
		if d.OldestPID > 0 {
			command = fmt.Sprintf("psql -c 'select pg_terminate_backend(%d)'", d.OldestPID)
		}
		warn(command, "a transaction of %q is open for %s and keeps the database from cleaning up", d.OldestName, Short(inSeconds(d.OldestSeconds)))
	}
	if d.MaxConnections > 0 && float64(d.Connections) > topFull*float64(d.MaxConnections) {
		warn("", "%d of %d connections of PostgreSQL are taken", d.Connections, d.MaxConnections)
	}
	if d.DiskSize > 0 && float64(d.DiskFree) < (1-topFull)*float64(d.DiskSize) {
		warn("courante log list", "the disk of the data folder has %s of %s left", bytesText(float64(d.DiskFree)), bytesText(float64(d.DiskSize)))
	}
}

// lastCause is the part of an error that says what happened, for one line.
func lastCause(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if strings.Contains(text, context.DeadlineExceeded.Error()) {
		return "no answer within " + Short(samplePatience)
	}
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
