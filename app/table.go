package app

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is aligned text for people. It ends lines where the text ends, so that
// copying a line copies no spaces.
type Table struct {
	rows   [][]string
	widths []int
}

// NewTable begins a table with its heads.
func NewTable(heads ...string) *Table {
	t := &Table{}
	t.Row(heads...)
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	for i, c := range cells {
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
	}
	t.rows = append(t.rows, cells)
}

// Write prints the table.
func (t *Table) Write(w io.Writer) {
	for _, row := range t.rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(c)
			if i+1 < len(row) {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
