package app

import (
	"fmt"
	"strings"
	"time"
)

// topLine is a line of a frame, painted as a whole.
type topLine struct {
	text  string
	paint string // of ANSI terminals, "" for none
}

const (
	paintBad   = "31;1"
	paintWarn  = "33"
	paintGood  = "32;1"
	paintHead  = "2"
	mostInTop  = 4  // problems that are listed where there is little room
	roomyLines = 30 // from here on there is more
)

// render makes lines of at most width and height; 0 is for no bound.
func (t *Top) render(width, height int, color bool) []string {
	lines := t.lines(height)
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		text := l.text
		if r := []rune(text); width > 0 && len(r) > width {
			text = string(r[:width-1]) + "…"
		}
		if color && l.paint != "" {
			text = "\x1b[" + l.paint + "m" + text + "\x1b[0m"
		}
		out[i] = text
	}
	return out
}

func (t *Top) lines(height int) []topLine {
	lines := t.head(height)
	lines = append(lines, topLine{text: t.rates()})
	blank := func() {
		if height == 0 || height >= roomyLines {
			lines = append(lines, topLine{})
		}
	}
	if len(t.Sagas) > 0 {
		blank()
		table := NewTable("SAGA", "STARTED/s", "ENDED/s", "P50", "P95", "P99", "UNDER WAY", "OVERDUE", "DELAYED")
		marks := []string{paintHead}
		for _, s := range t.Sagas {
			table.Row(s.Saga, number(s.Started), number(s.Ended), duration(s.P50), duration(s.P95), duration(s.P99), Thousands(s.UnderWay), Thousands(s.Overdue), s.causes())
			marks = append(marks, mark(s.Overdue > 0, false))
		}
		lines = append(lines, painted(table, marks)...)
	}
	blank()
	table := NewTable("SERVICE", "IN/s", "PENDING", "OLDEST", "ERRORS/s", "PARKED", "")
	marks := []string{paintHead}
	for _, s := range t.Services {
		parked := "-"
		if s.Waiting+s.Retried+s.Behind > 0 {
			parked = fmt.Sprintf("%s + %s retried + %s behind", Thousands(s.Waiting), Thousands(s.Retried), Thousands(s.Behind))
		}
		state := ""
		switch {
		case s.Stopped:
			state = "STOPPED"
		case s.Paused > 0:
			state = "paused"
		}
		table.Row(s.Service, number(s.In), Thousands(s.Pending), duration(s.Oldest), number(s.Errors), parked, state)
		marks = append(marks, mark(s.Retried > 0 || s.Paused > 0 || s.Oldest > topLate.Seconds(), s.Stopped || s.Waiting > 0))
	}
	lines = append(lines, painted(table, marks)...)
	if len(t.Effects) > 0 {
		blank()
		table := NewTable("EFFECT", "CALLS/s", "FAILED/s", "OPEN", "OLDEST", "")
		marks := []string{paintHead}
		for _, e := range t.Effects {
			state := ""
			if e.Breaker {
				state = "no answer"
			}
			table.Row(e.Service+" "+e.Effect, number(e.Calls), number(e.Failed), Thousands(e.Open), duration(e.Oldest), state)
			marks = append(marks, mark(e.Breaker, false))
		}
		lines = append(lines, painted(table, marks)...)
	}
	blank()
	return append(lines, t.database()...)
}

func mark(warn, bad bool) string {
	switch {
	case bad:
		return paintBad
	case warn:
		return paintWarn
	}
	return ""
}

func painted(t *Table, marks []string) []topLine {
	var b strings.Builder
	t.Write(&b)
	var lines []topLine
	for i, text := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		lines = append(lines, topLine{text, marks[i]})
	}
	return lines
}

// head is the state and what is wrong.
func (t *Top) head(height int) []topLine {
	now := t.At.Local().Format("15:04:05")
	if len(t.Problems) == 0 {
		return []topLine{{now + "  healthy", paintGood}}
	}
	paint := paintWarn
	if t.State == "broken" {
		paint = paintBad
	}
	lines := []topLine{{fmt.Sprintf("%s  %s: %d %s", now, t.State, len(t.Problems), plural(int64(len(t.Problems)), "problem", "problems")), paint}}
	most := len(t.Problems)
	if height > 0 && height < roomyLines {
		most = min(most, mostInTop)
	}
	for _, p := range t.Problems[:most] {
		paint := paintWarn
		if p.Severe {
			paint = paintBad
		}
		lines = append(lines, topLine{"! " + p.Text, paint})
		if p.Command != "" {
			lines = append(lines, topLine{"    " + p.Command, ""})
		}
	}
	if rest := len(t.Problems) - most; rest > 0 {
		lines = append(lines, topLine{fmt.Sprintf("  and %d more", rest), ""})
	}
	return lines
}

func (t *Top) rates() string {
	total := 0.0
	var each []string
	for _, l := range t.Logs {
		total += l.Events
		each = append(each, l.Log+" "+number(l.Events))
	}
	return fmt.Sprintf("%s commands/s, %s events/s: %s", number(t.Commands), number(total), strings.Join(each, ", "))
}

func (t *Top) database() []topLine {
	d := &t.Database
	text := fmt.Sprintf("PostgreSQL: %s, WAL %s/s, %d of %d connections, oldest transaction %s", bytesText(float64(d.Size)), bytesText(d.WAL),
		d.Connections, d.MaxConnections, duration(d.OldestSeconds))
	if d.Error != "" {
		text = "PostgreSQL: no answer"
	}
	if d.DiskSize > 0 {
		text += fmt.Sprintf(", disk %s free", bytesText(float64(d.DiskFree)))
	}
	cpu := fmt.Sprintf("CPU: programs %.2f cores", t.CPU.Programs)
	if t.CPU.Postgres > 0 {
		cpu += fmt.Sprintf(", PostgreSQL %.2f", t.CPU.Postgres)
	}
	cpu += fmt.Sprintf("; programs' memory %s; %s waits/s for a connection", bytesText(t.CPU.Memory), number(d.PoolWaits))
	return []topLine{{text, mark(false, d.Error != "")}, {cpu, ""}}
}

// causes are those of the delay, in words.
func (s *TopSaga) causes() string {
	var list []string
	for _, cause := range []string{"parked", "stopped", "paused", "breaker", "overdue"} {
		if n := s.Delayed[cause]; n > 0 {
			list = append(list, Thousands(n)+" "+cause)
		}
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

func number(n float64) string {
	if n > 0 && n < 10 {
		return fmt.Sprintf("%.1f", n)
	}
	return Thousands(int64(n + 0.5))
}

func duration(s float64) string {
	if s == 0 {
		return "-"
	}
	if s >= 1 && s < 10 {
		return inSeconds(s).Round(10 * time.Millisecond).String()
	}
	return Short(inSeconds(s))
}

// bytesText is a size as people say it.
func bytesText(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for ; n >= 1000 && i < len(units)-1; i++ {
		n /= 1000
	}
	if n < 10 && i > 0 {
		return fmt.Sprintf("%.1f %s", n, units[i])
	}
	return fmt.Sprintf("%.0f %s", n, units[i])
}
