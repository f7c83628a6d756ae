package courante

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each answer must be of a question that began after its call: one that was
// under way already may have read before the caller's own write.
func TestGroupAnswersNobodyFromBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written, questions atomic.Int64
		g := group[int, int64]{ask: func(_ context.Context, list []int) ([]int64, error) {
			questions.Add(1)
			seen := written.Load()
			time.Sleep(10 * time.Millisecond)
			answers := make([]int64, len(list))
			for i, add := range list {
				answers[i] = seen*1000 + int64(add)
			}
			return answers, nil
		}}
		const callers, each = 100, 20
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				for range each {
					mine := written.Add(1)
					got, err := g.call(t.Context(), i)
					if err != nil || got/1000 < mine || got%1000 != int64(i) {
						t.Errorf("caller %d wrote %d and read %d, %v", i, mine, got, err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		if n := questions.Load(); n > callers*each/10 {
			t.Errorf("%d calls made %d questions", callers*each, n)
		}
	})
}

func TestGroupCallerNeedNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the database is away")
		g := group[int, int]{ask: func(ctx context.Context, _ []int) ([]int, error) {
			<-ctx.Done()
			return nil, broken
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := g.call(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %s, want the caller's own deadline", err, time.Since(start))
		}
		if _, err := g.call(t.Context(), 1); !errors.Is(err, broken) {
			t.Errorf("got %v, want the question's error", err)
		}
	})
}
