package app

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante/postgres"
)

// Top is a look at a running system, as --json prints it.
type Top struct {
	At       time.Time    `json:"at"`
	State    string       `json:"state"` // healthy, degraded or broken
	Problems []TopProblem `json:"problems"`
	Programs []TopProgram `json:"programs"`
	Commands float64      `json:"commands_per_s"`
	Logs     []TopLog     `json:"logs"`
	Sagas    []TopSaga    `json:"sagas"`
	Services []TopService `json:"services"`
	Effects  []TopEffect  `json:"effects"`
	Database TopDatabase  `json:"database"`
	CPU      TopCPU       `json:"cpu"`
}

// TopProblem is something that is wrong, in words, with a command that helps.
type TopProblem struct {
	Severe  bool   `json:"severe"`
	Text    string `json:"text"`
	Command string `json:"command,omitempty"`
}

// TopProgram is one that was asked for its metrics.
type TopProgram struct {
	URL   string `json:"url"`
	Error string `json:"error,omitempty"`
}

// TopLog is how fast a log grows.
type TopLog struct {
	Log    string  `json:"log"`
	Events float64 `json:"events_per_s"`
}

// TopSaga is how sagas of a kind go.
type TopSaga struct {
	Saga     string                        `json:"saga"`
	Started  float64                       `json:"started_per_s"`
	Ended    float64                       `json:"ended_per_s"`
	P50      float64                       `json:"p50_seconds"` // of those that ended
	P95      float64                       `json:"p95_seconds"`
	P99      float64                       `json:"p99_seconds"`
	UnderWay int64                         `json:"under_way"`
	Overdue  int64                         `json:"overdue"`
	Delayed  map[string]int64              `json:"delayed"`       // by cause
	Value    map[string]map[string]float64 `json:"delayed_value"` // by cause and unit
}

// TopService is what a service does, and what it has before it.
type TopService struct {
	Service string  `json:"service"`
	In      float64 `json:"in_per_s"`
	Errors  float64 `json:"errors_per_s"`
	Pending int64   `json:"pending"`
	Oldest  float64 `json:"oldest_seconds"`
	Waiting int64   `json:"parked_waiting"`
	Retried int64   `json:"parked_retried"`
	Behind  int64   `json:"parked_behind"`
	Stopped bool    `json:"stopped"`
	Paused  int64   `json:"paused_lanes"`
}

// TopEffect is a kind of call to the outside.
type TopEffect struct {
	Service string  `json:"service"`
	Effect  string  `json:"effect"`
	Calls   float64 `json:"calls_per_s"`
	Failed  float64 `json:"failed_per_s"`
	Open    int64   `json:"open"`
	Oldest  float64 `json:"oldest_seconds"`
	Breaker bool    `json:"breaker_open"`
}

// TopDatabase is how the database stands.
type TopDatabase struct {
	Error          string  `json:"error,omitempty"`
	Connections    int     `json:"connections"`
	MaxConnections int     `json:"max_connections"`
	OldestSeconds  float64 `json:"oldest_transaction_seconds"`
	OldestPID      int     `json:"oldest_transaction_pid"`
	OldestName     string  `json:"oldest_transaction_application"`
	WAL            float64 `json:"wal_bytes_per_s"`
	Size           int64   `json:"size_bytes"`
	DiskFree       uint64  `json:"disk_free_bytes"` // of the data folder, if it is here
	DiskSize       uint64  `json:"disk_size_bytes"`
	PoolWaits      float64 `json:"pool_waits_per_s"`
}

// TopCPU is in cores.
type TopCPU struct {
	Programs float64 `json:"programs"`
	Postgres float64 `json:"postgres"` // 0 if it runs on another machine
	Memory   float64 `json:"programs_memory_bytes"`
}

// top makes of the samples what people want to know.
func (s *sampler) top() *Top {
	now, before := s.newest(), s.before(sampleRates)
	seconds := now.at.Sub(before.at).Seconds()
	rate := func(name string, with map[string]string) float64 {
		return perSecond(now.metrics.sum(name, with)-before.metrics.sum(name, with), seconds)
	}
	status := s.lastStatus()
	t := &Top{At: now.at, Commands: rate("courante_command_duration_seconds_count", nil)}
	for _, p := range now.programs {
		program := TopProgram{URL: p.url}
		if p.err != nil {
			program.Error = p.err.Error()
		}
		t.Programs = append(t.Programs, program)
	}
	earlier := map[string]int64{}
	for _, l := range before.status.Logs {
		earlier[l.Log] = l.Position
	}
	for _, l := range status.Logs {
		log := TopLog{Log: l.Log}
		if last, ok := earlier[l.Log]; ok && now.database == nil {
			log.Events = perSecond(float64(l.Position-last), seconds)
		}
		t.Logs = append(t.Logs, log)
	}
	slices.SortFunc(t.Logs, func(a, b TopLog) int {
		return cmp.Or(cmp.Compare(slices.Index(s.services, a.Log), slices.Index(s.services, b.Log)), cmp.Compare(a.Log, b.Log))
	})
	t.addSagas(s, rate)
	t.addServices(s, status, rate)
	t.addEffects(now, rate)
	t.Database = TopDatabase{
		Connections: status.Server.Connections, MaxConnections: status.Server.MaxConnections,
		OldestSeconds: status.Server.OldestTransaction.Age.Seconds(), OldestPID: status.Server.OldestTransaction.PID,
		OldestName: status.Server.OldestTransaction.Application, Size: status.Server.Size,
		DiskFree: now.disk.free, DiskSize: now.disk.size, PoolWaits: rate("courante_pool_waits_total", nil),
	}
	if now.database != nil {
		t.Database.Error = now.database.Error()
	} else if before.database == nil {
		t.Database.WAL = perSecond(float64(status.Server.WAL-before.status.Server.WAL), seconds)
		t.CPU.Postgres = perSecond((status.Server.CPU - before.status.Server.CPU).Seconds(), seconds)
	}
	t.CPU.Programs = rate("process_cpu_seconds_total", nil)
	t.CPU.Memory = now.metrics.sum("process_resident_memory_bytes", nil)
	t.judge()
	return t
}

// perSecond is a rate; 0 where a program began to count anew.
func perSecond(change, seconds float64) float64 {
	if seconds <= 0 || change < 0 {
		return 0
	}
	return change / seconds
}

func (t *Top) addSagas(s *sampler, rate func(string, map[string]string) float64) {
	now, before := s.newest().metrics, s.before(sampleKeep).metrics
	for _, name := range names(now.values("courante_journey_under_way", "saga", nil)) {
		with := map[string]string{"saga": name}
		saga := TopSaga{
			Saga: name, Started: rate("courante_journey_started_total", with), Ended: rate("courante_journey_duration_seconds_count", with),
			UnderWay: int64(now.max("courante_journey_under_way", with)), Overdue: int64(now.max("courante_journey_overdue", with)),
			Delayed: map[string]int64{}, Value: map[string]map[string]float64{},
		}
		all := now.buckets("courante_journey_duration_seconds", with)
		ended := minus(all, before.buckets("courante_journey_duration_seconds", with))
		if ended[math.Inf(1)] == 0 {
			ended = all
		}
		saga.P50, saga.P95, saga.P99 = quantile(ended, 0.5), quantile(ended, 0.95), quantile(ended, 0.99)
		for cause := range now.values("courante_journey_delayed", "cause", with) {
			of := map[string]string{"saga": name, "cause": cause}
			if n := int64(now.max("courante_journey_delayed", of)); n > 0 {
				saga.Delayed[cause] = n
			}
			now.each("courante_journey_delayed_value", of, func(s series) {
				if saga.Value[cause] == nil {
					saga.Value[cause] = map[string]float64{}
				}
				saga.Value[cause][s.labels["unit"]] = max(saga.Value[cause][s.labels["unit"]], s.value)
			})
		}
		t.Sagas = append(t.Sagas, saga)
	}
}

// quantile is where a share of a histogram's values lies, taken as even within
// each bucket; what is beyond the last bound counts as the bound.
func quantile(buckets map[float64]float64, q float64) float64 {
	total := buckets[math.Inf(1)]
	lower, below := 0.0, 0.0
	if total == 0 {
		return 0
	}
	for _, le := range slices.Sorted(maps.Keys(buckets)) {
		if n := buckets[le]; n >= q*total {
			if math.IsInf(le, 1) {
				return lower
			}
			return lower + (le-lower)*(q*total-below)/(n-below)
		}
		lower, below = le, buckets[le]
	}
	return lower
}

func (t *Top) addServices(s *sampler, status *postgres.Status, rate func(string, map[string]string) float64) {
	now := s.newest().metrics
	list := slices.Clone(s.services)
	known := func(name string) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, sub := range status.Subscriptions {
		known(sub.Subscriber)
	}
	for _, name := range list {
		with := map[string]string{"service": name}
		svc := TopService{
			Service: name, In: rate("courante_step_items_total", with),
			Errors: rate("courante_step_items_total", map[string]string{"service": name, "outcome": "error"}),
		}
		now.each("courante_subscriber_stopped", with, func(s series) { svc.Stopped = svc.Stopped || s.value > 0 })
		svc.Paused = int64(now.max("courante_actor_paused", map[string]string{"actor": "lane " + name}))
		for _, sub := range status.Subscriptions {
			if sub.Subscriber == name {
				svc.Pending += sub.Pending
				svc.Oldest = max(svc.Oldest, sub.Age(status.At).Seconds())
			}
		}
		for _, p := range status.Parked {
			if p.Subscriber == name {
				svc.Waiting, svc.Retried, svc.Behind = p.Waiting, p.Retried, p.Behind
			}
		}
		t.Services = append(t.Services, svc)
	}
}

func (t *Top) addEffects(now *sample, rate func(string, map[string]string) float64) {
	seen := map[string]bool{}
	now.metrics.each("courante_effect_open", nil, func(s series) { seen[s.labels["service"]+" "+s.labels["effect"]] = true })
	for _, name := range names(seen) {
		service, effect, _ := strings.Cut(name, " ")
		with := map[string]string{"service": service, "effect": effect}
		calls := rate("courante_effect_duration_seconds_count", with)
		ok := rate("courante_effect_duration_seconds_count", map[string]string{"service": service, "effect": effect, "outcome": "ok"})
		t.Effects = append(t.Effects, TopEffect{
			Service: service, Effect: effect, Calls: calls, Failed: max(0, calls-ok),
			Open: int64(now.metrics.max("courante_effect_open", with)), Oldest: now.metrics.max("courante_effect_age_seconds", with),
			Breaker: now.metrics.max("courante_effect_breaker", with) > 0,
		})
	}
}
