// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const distinctKeys = 1024

// makeKeys returns n keys of 16 bytes that differ in their last digits.
func makeKeys(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%012d", prefix, i)
	}
	return keys
}

// boxed is the no-op load's answer. It is boxed once beforehand, so that a call of Do pays for Do
// alone: converting a string to an interface would allocate in every call.
var boxed interface{} = "value:0123456789"

func load() (interface{}, error) { return boxed, nil }

var kept interface{}

// cycle calls Do n times, over keys in turn. len(keys) is a power of two.
func cycle(group *singleflight.Group, keys []string, n int) {
	mask := len(keys) - 1
	var last interface{}
	for i := 0; i < n; i++ {
		last, _, _ = group.Do(keys[i&mask], load)
	}
	if last == nil {
		panic("a load was lost")
	}
}

// perCall returns nanoseconds of wall time per call over all threads, which begin behind a barrier.
func perCall(n int, keysOf ...[]string) float64 {
	var group singleflight.Group
	for _, keys := range keysOf {
		cycle(&group, keys, n/10)
	}
	if len(keysOf) == 1 {
		begin := time.Now()
		cycle(&group, keysOf[0], n)
		return float64(time.Since(begin)) / float64(n)
	}
	var ready int32
	var done sync.WaitGroup
	share := n / len(keysOf)
	begins := make([]time.Time, len(keysOf))
	for i, keys := range keysOf {
		done.Add(1)
		go func(i int, keys []string) {
			defer done.Done()
			atomic.AddInt32(&ready, 1)
			for atomic.LoadInt32(&ready) < int32(len(keysOf)) {
			}
			begins[i] = time.Now()
			cycle(&group, keys, share)
		}(i, keys)
	}
	done.Wait()
	end := time.Now()
	first := begins[0]
	for _, begin := range begins {
		if begin.Before(first) {
			first = begin
		}
	}
	return float64(end.Sub(first)) / float64(share*len(keysOf))
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func benchDo(repetitions, calls int) (figures, error) {
	if repetitions < 1 || calls < 10*distinctKeys {
		return nil, errors.New("do needs a repetition at least and 10240 calls at least")
	}
	first, second := makeKeys("key:", distinctKeys), makeKeys("kez:", distinctKeys)
	hot := first[:1]
	var alone, distinct, contended []float64
	for i := 0; i < repetitions; i++ {
		alone = append(alone, perCall(calls, first))
		distinct = append(distinct, perCall(calls, first, second))
		contended = append(contended, perCall(calls, hot, hot))
	}

	var before, after runtime.MemStats
	var group singleflight.Group
	cycle(&group, first, calls/10)
	runtime.ReadMemStats(&before)
	cycle(&group, first, calls)
	runtime.ReadMemStats(&after)
	return figures{
		"alone_ns":          median(alone),
		"distinct_ns":       median(distinct),
		"hot_ns":            median(contended),
		"alone_allocations": float64(after.Mallocs-before.Mallocs) / float64(calls),
	}, nil
}
