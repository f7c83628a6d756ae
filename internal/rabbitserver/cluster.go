//go:build unix

package rabbitserver

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
)

// Cluster is several servers that keep queues together, so that one of three
// may be gone.
type Cluster struct {
	Members []*Server
}

// NewCluster prepares a cluster that keeps its data in the folder.
func NewCluster(dir string, members int, settings ...string) (*Cluster, error) {
	c := &Cluster{}
	var first *Server
	for n := range members {
		s, err := prepare(filepath.Join(dir, fmt.Sprintf("rabbit%d", n+1)), first, settings)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = s
		}
		c.Members = append(c.Members, s)
	}
	return c, nil
}

// Start returns when all members answer. The first is the one that the others
// join, which matters only the first time.
func (c *Cluster) Start() error {
	if err := c.Members[0].Start(); err != nil {
		return err
	}
	return c.each(c.Members[1:], (*Server).Start)
}

func (c *Cluster) each(members []*Server, do func(*Server) error) error {
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, s := range members {
		all.Go(func() { errs[i] = do(s) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// URLs are the addresses of all members.
func (c *Cluster) URLs() (urls []string) {
	for _, s := range c.Members {
		urls = append(urls, s.URL())
	}
	return urls
}

// Leader returns the member that leads most of the queues with the part in
// their names, as a member that runs knows it.
func (c *Cluster) Leader(part string) (*Server, error) {
	out, err := c.Control("list_queues", "--quiet", "--no-table-headers", "name", "leader")
	if err != nil {
		return nil, fmt.Errorf("ask who leads the queues: %w: %s", err, out)
	}
	leads, most := map[string]int{}, ""
	for line := range strings.Lines(out) {
		name, node, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if !strings.Contains(name, part) {
			continue
		}
		if leads[node]++; leads[node] > leads[most] {
			most = node
		}
	}
	for _, s := range c.Members {
		if s.node == most {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no member leads a queue with %q in its name:\n%s", part, out)
}

// Control runs rabbitmqctl on a member that runs.
func (c *Cluster) Control(args ...string) (string, error) {
	for _, s := range c.Members {
		select {
		case <-s.exited:
		default:
			return s.Control(args...)
		}
	}
	return "", errors.New("no member runs")
}

// Stop ends the cluster in order.
func (c *Cluster) Stop() {
	// The first has the names of all, which who leaves in order asks for.
	_ = c.each(c.Members[1:], func(s *Server) error { s.Stop(); return nil })
	c.Members[0].Stop()
}

// Remove ends the cluster and deletes its data.
func (c *Cluster) Remove() {
	for _, s := range c.Members {
		s.Remove()
	}
}
