package app

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

type eventsCommand struct {
	Tail eventsTailCommand `cmd:"" help:"Print events as they happen, or from the start."`
	Show eventsShowCommand `cmd:"" help:"Print one event with its cause and what it led to, or all of a stream."`
}

// Help teaches by example.
func (eventsCommand) Help() string {
	return `Examples:

  courante events tail --type {event}
  courante events show {log}/{stream}@1
  courante events show {stream}`
}

// eventLine is an event as --json prints it.
type eventLine struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Schema      int             `json:"schema"`
	Time        time.Time       `json:"time"`
	Correlation string          `json:"correlation_id"`
	Causation   string          `json:"causation_id"`
	TraceID     string          `json:"trace_id,omitempty"`
	Subject     string          `json:"subject,omitempty"`
	Data        json.RawMessage `json:"data"`
	Notes       *courante.Notes `json:"notes,omitempty"`
}

func lineOf(e *courante.Event) eventLine {
	return eventLine{
		ID: e.ID(), Type: e.Type, Schema: e.Schema, Time: e.Time, Correlation: e.Correlation, Causation: e.Causation,
		TraceID: traceID(e.Trace), Subject: e.Subject, Data: e.Data, Notes: e.Notes,
	}
}

// traceID takes the id out of a W3C traceparent.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 {
		return ""
	}
	return parts[1]
}
