package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// series is one line of a program's /metrics.
type series struct {
	name   string
	labels map[string]string
	value  float64
}

// scrape reads the metrics of a program.
func scrape(ctx context.Context, client *http.Client, url string) ([]series, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics answers %s", url, resp.Status)
	}
	return parseMetrics(resp.Body)
}

// parseMetrics reads Prometheus' text format, as far as our programs write it:
// a name, labels in braces, and a number. Timestamps and comments are skipped.
func parseMetrics(r io.Reader) ([]series, error) {
	var list []series
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		s, ok := parseSeries(line)
		if !ok {
			return nil, fmt.Errorf("this is no line of metrics: %q", line)
		}
		list = append(list, s)
	}
	return list, lines.Err()
}

func parseSeries(line string) (s series, ok bool) {
	end := strings.IndexAny(line, "{ ")
	if end < 1 || strings.ContainsAny(line[:end], "<>\"=") { // such as a page that says sorry
		return s, false
	}
	s.name, line = line[:end], line[end:]
	if line[0] == '{' {
		s.labels = map[string]string{}
		for line = line[1:]; line != "" && line[0] != '}'; line = strings.TrimPrefix(line, ",") {
			name, rest, found := strings.Cut(line, "=")
			quoted, err := strconv.QuotedPrefix(rest)
			if !found || err != nil {
				return s, false
			}
			// The format escapes \, " and newline, each as Go does.
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return s, false
			}
			s.labels[name], line = value, rest[len(quoted):]
		}
		line = strings.TrimPrefix(line, "}")
	}
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return s, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	s.value = value
	return s, err == nil
}

// metrics are the series of all programs that answered.
type metrics [][]series

// each calls visit with every series of the name that has the labels.
func (m metrics) each(name string, with map[string]string, visit func(series)) {
	for _, program := range m {
		for _, s := range program {
			if s.name == name && has(s.labels, with) {
				visit(s)
			}
		}
	}
}

func has(labels, with map[string]string) bool {
	for k, v := range with {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// sum is for what each program counts of its own.
func (m metrics) sum(name string, with map[string]string) (total float64) {
	m.each(name, with, func(s series) { total += s.value })
	return total
}

// max is for what all programs see alike, some a little later.
func (m metrics) max(name string, with map[string]string) (most float64) {
	m.each(name, with, func(s series) { most = max(most, s.value) })
	return most
}

// values are those of a label, in no order.
func (m metrics) values(name, label string, with map[string]string) map[string]bool {
	seen := map[string]bool{}
	m.each(name, with, func(s series) { seen[s.labels[label]] = true })
	return seen
}

// buckets are a histogram's cumulative counts by upper bound, of all programs.
func (m metrics) buckets(name string, with map[string]string) map[float64]float64 {
	counts := map[float64]float64{}
	m.each(name+"_bucket", with, func(s series) {
		if le, err := strconv.ParseFloat(s.labels["le"], 64); err == nil {
			counts[le] += s.value
		}
	})
	return counts
}

// minus are the counts of what came between two looks; none if a program began
// anew in between.
func minus(now, before map[float64]float64) map[float64]float64 {
	counts := maps.Clone(now)
	for le, n := range before {
		if counts[le] -= n; counts[le] < 0 {
			return map[float64]float64{}
		}
	}
	return counts
}
