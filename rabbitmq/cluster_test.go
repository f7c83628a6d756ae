package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante/courantetest"
)

// TestLeaderIsKilled takes the power from whoever leads the lanes' queues, one
// member after another, while messages flow: the two others go on, nothing that
// was confirmed is missing, and who comes back is as good as the others.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cluster := courantetest.StartRabbitMQCluster(t, 3)
	f := startFlow(t, cluster.URLs()...)
	f.more(t)
	for line := range strings.Lines(cluster.Control(t, "list_queues", "--quiet", "--no-table-headers", "name", "members")) {
		if strings.Contains(line, "/lane/") && strings.Count(line, "@localhost") != 3 {
			t.Errorf("queue %s has not three members", line)
		}
	}
	for round := range 2 {
		leader := cluster.Leader(t, "/lane/")
		began := time.Now()
		leader.Kill()
		f.more(t)
		t.Logf("round %d: four batches that were published after the leader was killed arrived after %v", round+1, time.Since(began).Round(time.Millisecond))
		leader.Start(t)
		f.more(t)
	}
	f.stop(t)
}
