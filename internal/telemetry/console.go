package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// console writes lines for people: the time of day, the level if it is not
// info, what happened, and the attributes behind it.
type console struct {
	level slog.Level
	color bool
	attrs []slog.Attr

	mu *sync.Mutex // guards out, shared by all handlers made from one
	w  io.Writer
}

func newConsole(w io.Writer, config LogConfig) *console {
	return &console{level: config.Level, color: config.Color, w: w, mu: new(sync.Mutex)}
}

func (c *console) Enabled(_ context.Context, level slog.Level) bool { return level >= c.level }

func (c *console) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if !r.Time.IsZero() {
		b.WriteString(c.paint(dim, r.Time.Local().Format("15:04:05.000")) + " ")
	}
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString(c.paint(red, "ERROR") + " ")
	case r.Level >= slog.LevelWarn:
		b.WriteString(c.paint(yellow, "WARN") + "  ")
	case r.Level < slog.LevelInfo:
		b.WriteString(c.paint(dim, "DEBUG") + " ")
	}
	b.WriteString(r.Message)
	for _, a := range c.attrs {
		c.attr(&b, a)
	}
	r.Attrs(func(a slog.Attr) bool {
		c.attr(&b, a)
		return true
	})
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

func (c *console) attr(b *strings.Builder, a slog.Attr) {
	if a.Key == "span_id" {
		return // 16 letters that nobody types; the trace id finds the rest
	}
	a = plain(nil, a)
	value := fmt.Sprint(a.Value.Any())
	if value == "" || strings.ContainsAny(value, " \t\n\"=") {
		value = strconv.Quote(value)
	}
	b.WriteString("  " + c.paint(dim, a.Key+"=") + value)
}

func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *c
	with.attrs = append(with.attrs[:len(with.attrs):len(with.attrs)], attrs...)
	return &with
}

// WithGroup is never called: the handler in front turns groups into prefixes.
func (c *console) WithGroup(string) slog.Handler { return c }

// Colours of ANSI terminals.
const (
	dim    = "2"
	red    = "31"
	yellow = "33"
)

func (c *console) paint(color, text string) string {
	if !c.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
