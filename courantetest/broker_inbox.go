package courantetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// counted is the CloudEvent n of a program outside.
func counted(n int) courante.CloudEvent {
	return courante.CloudEvent{
		ID: fmt.Sprint(n), Source: "/warehouse/north", Type: "warehouse.counted", Subject: "tea",
		Time: time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC), Correlation: "order-17",
		Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)),
	}
}

func receive(t *testing.T, b courante.Broker) courante.Inbox {
	t.Helper()
	in, err := b.Receive(t.Context(), "inventory", []string{"warehouse.counted", "warehouse.closed"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	return in
}

// takeInbox takes n CloudEvents.
func takeInbox(t *testing.T, in courante.Inbox, n int) []courante.Arrival {
	t.Helper()
	deadline := time.NewTimer(brokerPatience)
	defer deadline.Stop()
	var all []courante.Arrival
	for len(all) < n {
		list, err := in.Take(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, list...); len(list) > 0 {
			continue
		}
		select {
		case <-in.Arrived():
		case <-deadline.C:
			t.Fatalf("got %d of %d CloudEvents, and then nothing for %v", len(all), n, brokerPatience)
		}
	}
	return all
}

// wantIDs checks that the arrivals are CloudEvents from..to, in order.
func wantIDs(t *testing.T, list []courante.Arrival, from, to int) {
	t.Helper()
	var got, want []string
	for _, a := range list {
		got = append(got, a.ID)
	}
	for n := from; n <= to; n++ {
		want = append(want, fmt.Sprint(n))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got CloudEvents %v, want %v", got, want)
	}
}

var brokerInbox = []brokerCase{
	{"from outside", "An inbox brings what was sent, whole and in order, of the types asked for.", func(t *testing.T, f BrokerFixture) {
		in := receive(t, f.Connect(t))
		for n := 1; n <= 20; n++ {
			f.Send(t, counted(n))
		}
		closed := counted(21)
		closed.Type, closed.Time, closed.Correlation, closed.Trace, closed.Subject = "warehouse.closed", time.Time{}, "", "", ""
		f.Send(t, closed)
		list := takeInbox(t, in, 21)
		wantIDs(t, list, 1, 21)
		for i, want := range []courante.CloudEvent{0: counted(1), 20: closed} {
			if want.ID == "" {
				continue
			}
			got := list[i].CloudEvent
			if string(got.Data) != string(want.Data) || !got.Time.Equal(want.Time) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			got.Data, want.Data, got.Time, want.Time = nil, nil, time.Time{}, time.Time{}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	}},
	{"an inbox given back", "What was not acknowledged comes again to the next inbox, also after the connection broke.", func(t *testing.T, f BrokerFixture) {
		first := receive(t, f.Connect(t))
		for n := 1; n <= 10; n++ {
			f.Send(t, counted(n))
		}
		list := takeInbox(t, first, 10)
		if err := first.Ack(t.Context(), list[3].Tag); err != nil {
			t.Fatal(err)
		}
		first.Close()
		second := receive(t, f.Connect(t))
		list = takeInbox(t, second, 6)
		wantIDs(t, list, 5, 10)
		f.Cut(t)
		list = takeInbox(t, second, 6)
		wantIDs(t, list, 5, 10)
		if err := second.Ack(t.Context(), list[5].Tag); err != nil {
			t.Fatal(err)
		}
		f.Send(t, counted(11))
		wantIDs(t, takeInbox(t, second, 1), 11, 11)
	}},
	{"refused", "What is refused is put aside with the reason, and does not come again.", func(t *testing.T, f BrokerFixture) {
		in := receive(t, f.Connect(t))
		for n := 1; n <= 3; n++ {
			f.Send(t, counted(n))
		}
		list := takeInbox(t, in, 3)
		if err := in.Refuse(t.Context(), list[1].Tag, "there is no such shelf"); err != nil {
			t.Fatal(err)
		}
		if err := in.Ack(t.Context(), list[2].Tag); err != nil {
			t.Fatal(err)
		}
		if got := f.Refused(t); len(got) != 1 || !strings.Contains(got[0], "no such shelf") {
			t.Errorf("put aside: %q, want the one", got)
		}
		in.Close()
		f.Send(t, counted(4))
		wantIDs(t, takeInbox(t, receive(t, f.Connect(t)), 1), 4, 4)
	}},
}
