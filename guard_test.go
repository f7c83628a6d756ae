package courante_test

import (
	"testing"

	"github.com/courante-dev/courante"
)

func TestPastAllows(t *testing.T) {
	t.Parallel()
	step := courante.Step{When: []string{"noted", "reserved"}, Unless: []string{"settled", "requested"}}
	tests := []struct {
		rule string
		past courante.Past
		want bool
	}{
		{"nothing happened yet", nil, false},
		{"one of two is not enough", courante.Past{"noted"}, false},
		{"all of When", courante.Past{"reserved", "noted"}, true},
		{"a duplicate finds its own mark", courante.Past{"noted", "reserved", "requested"}, false},
		{"too late", courante.Past{"settled", "noted", "reserved"}, false},
		{"other events do not matter", courante.Past{"noted", "other", "reserved"}, true},
	}
	for _, tt := range tests {
		if got := tt.past.Allows(step); got != tt.want {
			t.Errorf("%s: past %v allows = %v, want %v", tt.rule, tt.past, got, tt.want)
		}
	}
	var p courante.Past
	p.Add("a")
	p.Add("b")
	p.Add("a")
	if len(p) != 2 || !p.Has("a") || !p.Has("b") || p.Has("c") {
		t.Errorf("past after adding a, b, a: %v", p)
	}
}
