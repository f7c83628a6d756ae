package app

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/courante-dev/courante/postgres"
)

// sampler looks at a system again and again.
type sampler struct {
	p        *Program
	url      string // of the database, "" if it is not known
	data     string // folder of the embedded system, "" if there is none
	programs []string
	client   *http.Client
	db       *postgres.Database // nil: not connected yet
	services []string
	samples  []sample // the newest last
}

// sample is what one look has seen.
type sample struct {
	at       time.Time
	status   postgres.Status
	database error // why there is no status
	metrics  metrics
	programs []programSample
	disk     diskSpace
}

type programSample struct {
	url string
	err error
}

type diskSpace struct{ free, size uint64 }

const (
	sampleKeep     = time.Minute     // what percentiles are of
	sampleRates    = 5 * time.Second // what rates are of: shorter ones jump, longer ones hide
	samplePatience = 3 * time.Second // longer than a program waits for its database before it tells the rest
)

func newSampler(p *Program, programs []string) (*sampler, error) {
	s := &sampler{p: p, client: &http.Client{Timeout: samplePatience}}
	for _, url := range programs {
		s.programs = append(s.programs, strings.TrimRight(url, "/"))
	}
	conn, err := p.Globals.Connection()
	if err == nil && p.Globals.PostgresURL == "" {
		s.data = p.Globals.Data
		if len(programs) == 0 {
			s.programs = conn.HTTP
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.url, err = p.Globals.FindDatabase(); err != nil && len(s.programs) == 0 {
		return nil, err
	}
	for _, svc := range p.app.Declare() {
		s.services = append(s.services, svc.Name())
	}
	return s, nil
}

func (s *sampler) close() {
	if s.db != nil {
		s.db.Close()
	}
}

// sample looks once, at the database and at the programs at the same time: one
// that does not answer must not make the others look slow.
func (s *sampler) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, samplePatience)
	defer cancel()
	now := sample{at: time.Now(), programs: make([]programSample, len(s.programs))}
	found := make([][]series, len(s.programs))
	done := make(chan struct{})
	for i, url := range s.programs {
		go func() {
			list, err := scrape(ctx, s.client, url)
			found[i], now.programs[i] = list, programSample{url, err}
			done <- struct{}{}
		}()
	}
	now.status, now.database = s.look(ctx)
	for range s.programs {
		<-done
	}
	for _, list := range found {
		if list != nil {
			now.metrics = append(now.metrics, list)
		}
	}
	if s.data != "" {
		var at syscall.Statfs_t
		if syscall.Statfs(s.data, &at) == nil {
			now.disk = diskSpace{at.Bavail * uint64(at.Bsize), at.Blocks * uint64(at.Bsize)}
		}
	}
	s.samples = append(s.samples, now)
	s.samples = slices.DeleteFunc(s.samples, func(old sample) bool { return now.at.Sub(old.at) > sampleKeep })
}

// look asks the database, and connects first if that has not worked yet.
func (s *sampler) look(ctx context.Context) (postgres.Status, error) {
	if s.url == "" {
		return postgres.Status{}, errors.New("its address is not known; set COURANTE_POSTGRES_URL")
	}
	if s.db == nil {
		db, _, err := s.p.openExisting(ctx, s.url)
		if err != nil {
			return postgres.Status{}, err
		}
		s.db = db
	}
	return s.db.Status(ctx)
}

func (s *sampler) newest() *sample { return &s.samples[len(s.samples)-1] }

// before is the oldest sample within the time, with which rates are taken.
func (s *sampler) before(within time.Duration) *sample {
	now := s.newest()
	for i := range s.samples {
		if now.at.Sub(s.samples[i].at) <= within {
			return &s.samples[i]
		}
	}
	return now
}

// lastStatus is the newest that the database gave.
func (s *sampler) lastStatus() *postgres.Status {
	for i := range slices.Backward(s.samples) {
		if s.samples[i].database == nil {
			return &s.samples[i].status
		}
	}
	return &postgres.Status{}
}
