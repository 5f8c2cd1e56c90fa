// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sort"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// pairsOf acquires and releases one permit n times.
func pairsOf(all *semaphore.Weighted, n int) {
	ctx := context.Background()
	for i := 0; i < n; i++ {
		if all.Acquire(ctx, 1) != nil {
			panic("a permit was refused")
		}
		all.Release(1)
	}
}

// benchSemaphore returns nanoseconds per pair of Acquire and Release: on one goroutine, and of wall
// time over two that begin behind a barrier.
func benchSemaphore(repetitions, n int) (figures, error) {
	var alone, two []float64
	for r := 0; r < repetitions; r++ {
		all := semaphore.NewWeighted(10)
		pairsOf(all, n/10)
		begin := time.Now()
		pairsOf(all, n)
		alone = append(alone, float64(time.Since(begin))/float64(n))

		start, done := make(chan struct{}), make(chan struct{})
		for i := 0; i < 2; i++ {
			go func() {
				<-start
				pairsOf(all, n)
				done <- struct{}{}
			}()
		}
		begin = time.Now()
		close(start)
		<-done
		<-done
		two = append(two, float64(time.Since(begin))/float64(2*n))
	}
	sort.Float64s(alone)
	sort.Float64s(two)
	return figures{"alone_ns": alone[len(alone)/2], "two_threads_ns": two[len(two)/2]}, nil
}

// permitFanIn returns the time from one Release that admits n goroutines until the last of them has
// its permit, per goroutine; each returns it at once.
func permitFanIn(n, turns int) (figures, error) {
	var found []float64
	ctx := context.Background()
	for t := 0; t < turns; t++ {
		all := semaphore.NewWeighted(int64(n))
		if err := all.Acquire(ctx, int64(n)); err != nil {
			return nil, err
		}
		var joined, admitted int64
		var last time.Time
		finished := make(chan struct{})
		for i := 0; i < n; i++ {
			go func() {
				atomic.AddInt64(&joined, 1)
				if all.Acquire(ctx, 1) != nil {
					panic("a permit was refused")
				}
				all.Release(1)
				if atomic.AddInt64(&admitted, 1) == int64(n) {
					last = time.Now()
					close(finished)
				}
			}()
		}
		for atomic.LoadInt64(&joined) < int64(n) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // the last few may not be waiting yet
		begin := time.Now()
		all.Release(int64(n))
		<-finished
		found = append(found, float64(last.Sub(begin))/float64(n))
	}
	sort.Float64s(found)
	return figures{"wake_ns": found[len(found)/2]}, nil
}
