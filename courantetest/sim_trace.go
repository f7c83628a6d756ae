package courantetest

import (
	"fmt"
	"hash"
	"io"
)

// kept is how many lines of its trace a run keeps.
const kept = 40

// trace is everything that happened, as a hash, and its end as text.
type trace struct {
	hash  hash.Hash64
	lines [kept][]byte
	n     int
	out   io.Writer // gets every line; nil: nobody wants to
}

func (w *world) logf(format string, args ...any) {
	t := &w.trace
	line := t.lines[t.n%kept][:0]
	line = fmt.Appendf(line, "%6d %12.6fs ", w.steps, w.now.Sub(epoch).Seconds())
	line = fmt.Appendf(line, format, args...)
	t.write(line)
}

// step is logf for the line that most of a trace consists of.
func (w *world) logStep(a *actor) {
	t := &w.trace
	line := t.lines[t.n%kept][:0]
	line = fmt.Appendf(line, "%6d %12.6fs ", w.steps, w.now.Sub(epoch).Seconds())
	line = append(line, a.name...)
	line = append(line, ": "...)
	line = append(line, a.point...)
	t.write(line)
}

func (t *trace) write(line []byte) {
	t.lines[t.n%kept] = line
	t.n++
	_, _ = t.hash.Write(line) // never fails
	if t.out != nil {
		fmt.Fprintf(t.out, "%s\n", line)
	}
}

// last returns the last lines.
func (t *trace) last() []string {
	var lines []string
	for i := max(t.n-kept, 0); i < t.n; i++ {
		lines = append(lines, string(t.lines[i%kept]))
	}
	return lines
}
