package main

import (
	"testing"
	"time"

	"github.com/courante-dev/courante/cmd/courante/internal/replay"
)

func TestProgressLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule string
		is   replay.Progress
		want string
	}{
		{"stock comes first", replay.Progress{Total: 3000, Stocked: 10, ToStock: 1200, Elapsed: time.Second},
			"receiving stock: 10 of 1,200 SKUs, 0 repeated"},
		{"nothing is guessed from the first moment", replay.Progress{Total: 3000, Lines: 30, Orders: 2, Elapsed: time.Millisecond},
			"30 of 3,000 lines (1%), 2 orders, 0 under way, 0 refused, 0 repeated"},
		{"the rest takes as long as what was done", replay.Progress{Total: 3000, Lines: 1000, Orders: 50, UnderWay: 7, Refused: 3, Elapsed: 10 * time.Second},
			"1,000 of 3,000 lines (33%), 50 orders, 7 under way, 100 lines/s, 5 orders/s, 20s left, 3 refused, 0 repeated"},
		{"trouble is told", replay.Progress{Total: 3000, Lines: 30, Repeated: 4, Trouble: "connection refused", Elapsed: time.Millisecond},
			"30 of 3,000 lines (1%), 0 orders, 0 under way, 0 refused, 4 repeated: connection refused"},
		{"at the end nothing is left", replay.Progress{Total: 3000, Lines: 3000, Orders: 50, UnderWay: 7, Elapsed: 10 * time.Second},
			"3,000 of 3,000 lines (100%), 50 orders, 7 under way, 300 lines/s, 5 orders/s, 0 refused, 0 repeated"},
	}
	for _, tt := range tests {
		if got := progressLine(tt.is); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.rule, got, tt.want)
		}
	}
}
