package courantetest

import (
	"errors"
	"hash/fnv"
	"strings"
	"testing"
)

func TestFailureOfARunSaysHowToSeeItAgain(t *testing.T) {
	t.Parallel()
	r := &BrokenError{&Run{Seed: 17, Steps: 3, Err: errors.New("money was lost"), Trace: []string{"first", "last"}}}
	got := r.failure("TestShop/seeds/part_1_of_2")
	for _, want := range []string{"seed 17", "money was lost", "  first\n  last\n", "go test -run '^TestShop$' -courante.seed=17"} {
		if !strings.Contains(got, want) {
			t.Errorf("the failure reads\n%s\nwant %q in it", got, want)
		}
	}
}

func TestTraceKeepsItsEnd(t *testing.T) {
	t.Parallel()
	tr := trace{hash: fnv.New64a()}
	for i := range kept + 3 {
		tr.write([]byte{byte('0' + i%10)})
	}
	if lines := tr.last(); len(lines) != kept || lines[0] != "3" || lines[kept-1] != "2" {
		t.Errorf("it keeps %d lines from %q to %q, want the last %d", len(lines), lines[0], lines[len(lines)-1], kept)
	}
}
