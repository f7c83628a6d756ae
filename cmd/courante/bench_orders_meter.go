package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reading is what all meters say at one moment.
type reading struct {
	program, server time.Duration // CPU time
	broker          time.Duration
	messages        int64
	deliveries      int64
	bytes           int64 // to RabbitMQ and from it
	commits         int64
	statements      int64
	walBytes        int64
	spans           int64
	batches         map[string]batch
}

func (t *town) read(ctx context.Context) (r reading, err error) {
	own, err := readStat(os.Getpid())
	if err != nil {
		return r, err
	}
	r.program = own.own
	if r.server, err = cpuOfServer(t.db.postmaster); err != nil {
		return r, err
	}
	if w := t.wires; w != nil {
		if r.broker, err = cpuOfGroup(w.server.Pid()); err != nil {
			return r, err
		}
		r.messages, r.deliveries, r.bytes = w.messages.Load(), w.deliveries.Load(), w.sent.Load()+w.received.Load()
	}
	err = t.db.pool.QueryRow(ctx, `
		select xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint
		from pg_stat_database where datname = current_database()`).Scan(&r.commits, &r.walBytes)
	if err != nil {
		return r, err
	}
	if t.db.statements {
		err := t.db.pool.QueryRow(ctx, "select sum(calls)::bigint from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())").Scan(&r.statements)
		if err != nil {
			return r, err
		}
	}
	if t.spans != nil {
		r.spans = t.spans.spans.Load()
	}
	r.batches, err = t.batches()
	return r, err
}

// residentMemory is how much of this program is in memory, from /proc.
func residentMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "VmRSS:"); found {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, nil
}

// ordersResult is what the bench prints with --json.
type ordersResult struct {
	Bench      string  `json:"bench"`
	N          int     `json:"n"` // orders that ended while it measured
	Seconds    float64 `json:"seconds"`
	OrdersPerS float64 `json:"orders_per_s"`
	LimitPerS  float64 `json:"limit_per_s"`
	Ratio      float64 `json:"ratio"`

	// From the decision that created an order to the one that confirmed it.
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	// From when it was to be placed to the mail about its end.
	MailP50 float64 `json:"mail_p50_ms"`
	MailP99 float64 `json:"mail_p99_ms"`

	CPUPer1000      float64 `json:"cpu_s_per_1000"`
	ProgramPer1000  float64 `json:"program_cpu_s_per_1000"`
	ServerPer1000   float64 `json:"postgresql_cpu_s_per_1000"`
	BrokerPer1000   float64 `json:"rabbitmq_cpu_s_per_1000,omitempty"`
	LimitCPUPer1000 float64 `json:"limit_cpu_s_per_1000"`

	Messages   float64            `json:"messages_per_order,omitempty"`   // sent to RabbitMQ
	Deliveries float64            `json:"deliveries_per_order,omitempty"` // queues that they were for
	BrokerKB   float64            `json:"rabbitmq_kb_per_order,omitempty"`
	Commits    float64            `json:"commits_per_order"`
	Statements float64            `json:"statements_per_order,omitempty"`
	WALkB      float64            `json:"wal_kb_per_order"`
	Spans      float64            `json:"spans_per_order"`
	Batches    map[string]float64 `json:"batch_sizes"`
	RSSMB      float64            `json:"rss_mb"` // of the program, at the end

	FirstMinute float64 `json:"first_minute_per_s,omitempty"`
	LastMinute  float64 `json:"last_minute_per_s,omitempty"`

	Rate    float64 `json:"rate,omitempty"`
	History int     `json:"history_events"`
	Traces  float64 `json:"traced"`
	Outside string  `json:"outside"`
	Over    string  `json:"over"`
	Foreign bool    `json:"foreign_transaction"`

	Orders    int    `json:"orders"` // all of them, from the warm-up to the end
	Confirmed int    `json:"confirmed"`
	Cancelled int    `json:"cancelled"`
	Checks    string `json:"checks"`

	Limit limitResult `json:"-"`
}

// rates works out how many orders ended between two moments.
func (r *ordersResult) rates(c *customers, from, to time.Time) {
	r.Seconds = to.Sub(from).Seconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	var took []time.Duration
	var first, last int
	for _, o := range c.ended {
		if o.at.Before(from) || o.at.After(to) {
			continue
		}
		took = append(took, o.took)
		if o.at.Sub(from) < time.Minute {
			first++
		}
		if to.Sub(o.at) < time.Minute {
			last++
		}
	}
	r.N = len(took)
	r.OrdersPerS = float64(r.N) / r.Seconds
	if r.Seconds >= 120 {
		r.FirstMinute, r.LastMinute = float64(first)/60, float64(last)/60
	}
	slices.Sort(took)
	r.MailP50, r.MailP99 = percentile(took, .50), percentile(took, .99)
	r.LimitPerS, r.LimitCPUPer1000 = r.Limit.PerS, r.Limit.CPUPer1000
	if r.LimitPerS > 0 {
		r.Ratio = r.OrdersPerS / r.LimitPerS
	}
}

// costs works out what so many orders took.
func (r *ordersResult) costs(before, after reading, orders int) {
	n := float64(max(orders, 1))
	r.ProgramPer1000 = (after.program - before.program).Seconds() / n * 1000
	r.ServerPer1000 = (after.server - before.server).Seconds() / n * 1000
	r.BrokerPer1000 = (after.broker - before.broker).Seconds() / n * 1000
	r.CPUPer1000 = r.ProgramPer1000 + r.ServerPer1000 + r.BrokerPer1000
	r.Messages = float64(after.messages-before.messages) / n
	r.Deliveries = float64(after.deliveries-before.deliveries) / n
	r.BrokerKB = float64(after.bytes-before.bytes) / 1000 / n
	r.Commits = float64(after.commits-before.commits) / n
	r.Statements = float64(after.statements-before.statements) / n
	r.WALkB = float64(after.walBytes-before.walBytes) / 1000 / n
	r.Spans = float64(after.spans-before.spans) / n
	r.Batches = map[string]float64{}
	for service, b := range after.batches {
		was := before.batches[service]
		if count := b.count - was.count; count > 0 {
			r.Batches[service] = (b.items - was.items) / count
		}
	}
}

// percentile is in milliseconds, of durations in order.
func percentile(took []time.Duration, share float64) float64 {
	if len(took) == 0 {
		return 0
	}
	return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
}

// services are those of the batches, in the order in which an order visits them.
func (r *ordersResult) services() []string {
	list := make([]string, 0, len(r.Batches))
	for name := range r.Batches {
		list = append(list, name)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(-eventsOfOrder[a], -eventsOfOrder[b]) })
	return list
}
