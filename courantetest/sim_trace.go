package courantetest

import (
	"fmt"
	"hash"
	"io"
	"strconv"
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
	w.trace.write(fmt.Appendf(w.stamp(), format, args...))
}

// step is logf for the line that most of a trace consists of.
func (w *world) logStep(a *actor) {
	line := append(w.stamp(), a.name...)
	line = append(line, ": "...)
	w.trace.write(append(line, a.point...))
}

// stamp begins a line: the number of the step, and the time in microseconds.
func (w *world) stamp() []byte {
	line := w.trace.lines[w.trace.n%kept][:0]
	line = strconv.AppendInt(line, int64(w.steps), 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, w.now.Sub(Epoch).Microseconds(), 10)
	return append(line, "us "...)
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
