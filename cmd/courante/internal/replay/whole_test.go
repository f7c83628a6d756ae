package replay

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// realFile is the real Online Retail file, where somebody has put it beside
// the module. It is not part of the project.
const realFile = "../../../../../shared/data/online_retail.csv.zst"

// TestWholeFile replays the real file to a shop in memory. The numbers are
// those of a program of its own, written from the rules in docs/replay.md.
func TestWholeFile(t *testing.T) {
	if _, err := os.Stat(realFile); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the real file is not here")
	}
	if testing.Short() {
		t.Skip("541,909 lines")
	}
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		r := complete(t, s, config(realFile))
		if r.Lines != 541_909 || r.Checks != "ok" {
			t.Errorf("got %d lines and checks %q, want 541909 and ok", r.Lines, r.Checks)
		}
		want(t, "accepted", r.Accepted, map[string]int{
			asOrder: 528_886, asCharge: 2_392, asReturn: 7_432, asPartOfReturn: 51, asAdjustment: 1_324,
		})
		want(t, "refused", causesOf(r), map[Cause]int{
			neverBought: 1_031, chargeReturned: 584, guestReturn: 165, alreadyReturned: 25, negativeCharge: 12, finePrice: 4, badDebt: 3,
		})
		if r.Orders.Placed != 20_725 || len(s.orders) != 20_725 || r.Returns.Accepted != 3_775 || r.Orders.ByStatus["cancelled"] != 0 {
			t.Errorf("got %d orders placed, %d in the shop, %d returns, %v; want 20725 orders, none cancelled, 3775 returns",
				r.Orders.Placed, len(s.orders), r.Returns.Accepted, r.Orders.ByStatus)
		}
		if r.Returns.Pieces != 250_677 || r.Returns.NotPieces != 18_807 {
			t.Errorf("got %d pieces back and %d not, want 250677 and 18807", r.Returns.Pieces, r.Returns.NotPieces)
		}
	})
}
