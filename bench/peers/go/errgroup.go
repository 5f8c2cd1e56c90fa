// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

func nothing() error { return nil }

// errGroup submits n no-op tasks to one group and waits for them; a limit of 0 is none.
func errGroup(repetitions, n, limit int) (figures, error) {
	if repetitions < 1 || n < 1 || limit < 0 {
		return nil, errors.New("errgroup needs a repetition and a task at least, and no negative limit")
	}
	var group errgroup.Group
	if limit > 0 {
		group.SetLimit(limit)
	}
	var before, after runtime.MemStats
	var took []float64
	for i := 0; i <= repetitions; i++ {
		if i == repetitions {
			runtime.ReadMemStats(&before)
		}
		begin := time.Now()
		for task := 0; task < n; task++ {
			group.Go(nothing)
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		if i > 0 { // the first one warms the heap and the scheduler
			took = append(took, float64(time.Since(begin))/float64(n))
		}
	}
	runtime.ReadMemStats(&after)
	return figures{
		"task_ns":     median(took),
		"allocations": float64(after.Mallocs-before.Mallocs) / float64(n),
	}, nil
}
