package replay

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// What a line was accepted as.
const (
	asOrder        = "order_line"
	asCharge       = "charge_line"
	asReturn       = "return"
	asPartOfReturn = "return_in_part" // some of its pieces could be matched
	asAdjustment   = "adjustment"
	asOrderRecord  = "order"        // of NDJSON
	asReceipt      = "receipt"      // of NDJSON
	asCancel       = "cancellation" // of NDJSON
)

// account keeps what became of each line of the file. Each line is entered
// once; what was entered must add up to what the file has.
type account struct {
	mu       sync.Mutex // guards all below
	accepted map[string]int
	refused  map[Cause]*Refused
	beyond   int // behind --limit
	merged   int // with an equal one before
	entered  int
	returns  Returns
}

// Returns are what was asked of orders that had ended.
type Returns struct {
	Accepted  int           `json:"accepted"`
	Refused   map[Cause]int `json:"refused"`
	Pieces    int64         `json:"pieces"`     // taken back by the lines of cancel invoices
	NotPieces int64         `json:"not_pieces"` // of these lines, that were not
}

// Refused are the lines that were refused for one cause.
type Refused struct {
	Cause   Cause  `json:"cause"`
	Says    string `json:"says"`
	Lines   int    `json:"lines"`
	First   int    `json:"first_line"`
	Example string `json:"example,omitempty"` // what the system said about the first
}

func newAccount() *account {
	return &account{accepted: map[string]int{}, refused: map[Cause]*Refused{}, returns: Returns{Refused: map[Cause]int{}}}
}

func (a *account) accept(as string, lines int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted[as] += lines
	a.entered += lines
}

// refuse enters lines, the first of which is given, with what the system said.
func (a *account) refuse(c Cause, lines, first int, said string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entered += lines
	r := a.refused[c]
	if r == nil {
		r = &Refused{Cause: c, Says: c.Says(), First: first, Example: said}
		a.refused[c] = r
	}
	r.Lines += lines
	if first < r.First {
		r.First, r.Example = first, said
	}
}

// merge enters lines that the system took as one with earlier ones.
func (a *account) merge(lines int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.merged += lines
	a.entered += lines
}

// leaveBeyond enters a line behind the limit.
func (a *account) leaveBeyond() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beyond++
	a.entered++
}

// returned counts a return that the system accepted (no cause) or did not.
func (a *account) returned(c Cause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c == "" {
		a.returns.Accepted++
	} else {
		a.returns.Refused[c]++
	}
}

// pieces counts what became of the pieces of a line that gives back.
func (a *account) pieces(taken, not int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.returns.Pieces += taken
	a.returns.NotPieces += not
}

// count is how many lines within the limit are entered, and how many of them
// are refused.
func (a *account) count() (entered, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.refused {
		refused += r.Lines
	}
	return a.entered - a.beyond, refused
}

// report copies the account, the most frequent cause first.
func (a *account) report(r *Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Accepted = maps.Clone(a.accepted)
	r.BeyondLimit, r.Merged = a.beyond, a.merged
	r.NotReached = r.Lines - a.entered
	r.Returns = a.returns
	r.Returns.Refused = maps.Clone(a.returns.Refused)
	r.Refused = []Refused{}
	for _, refused := range a.refused {
		r.Refused = append(r.Refused, *refused)
	}
	slices.SortFunc(r.Refused, func(x, y Refused) int {
		return cmp.Or(cmp.Compare(y.Lines, x.Lines), cmp.Compare(x.Cause, y.Cause))
	})
}
