// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/golang/groupcache"
)

const (
	cacheEntries = 1000
	cacheDraws   = 1 << 20 // a power of two
)

// hitsOf gets n keys in turn. The sink is reused: a new one would be an allocation per call.
func hitsOf(group *groupcache.Group, keys []string, first, n int) {
	ctx := context.Background()
	var view groupcache.ByteView
	sink := groupcache.ByteViewSink(&view)
	for i := first; i < first+n; i++ {
		if group.Get(ctx, keys[i&(cacheDraws-1)], sink) != nil || view.Len() == 0 {
			panic("a value was lost")
		}
	}
}

// benchCache returns nanoseconds per hit of groupcache's Group.Get, which its users call, on
// Zipf keys of 16 bytes: on one goroutine, and of wall time over two that begin behind a barrier.
func benchCache(repetitions, n int) (figures, error) {
	if repetitions < 1 || n < 1 {
		return nil, errors.New("cache needs a repetition and a call at least")
	}
	var loads int64
	value := groupcache.GetterFunc(
		func(_ context.Context, key string, dest groupcache.Sink) error {
			atomic.AddInt64(&loads, 1)
			return dest.SetString("12345678")
		})
	group := groupcache.NewGroup("cache", 1<<20, value)

	all := makeKeys("key:", cacheEntries)
	ranks := newZipf(cacheEntries, zipfSkew)
	draw := random{42}
	keys := make([]string, cacheDraws)
	for i := range keys {
		keys[i] = all[ranks.rank(&draw)]
	}
	hitsOf(group, keys, 0, cacheDraws)
	before := atomic.LoadInt64(&loads)

	var alone, two []float64
	for r := 0; r < repetitions; r++ {
		begin := time.Now()
		hitsOf(group, keys, 0, n)
		alone = append(alone, float64(time.Since(begin))/float64(n))

		start, done := make(chan struct{}), make(chan struct{})
		for i := 0; i < 2; i++ {
			go func(first int) {
				<-start
				hitsOf(group, keys, first, n)
				done <- struct{}{}
			}(i * cacheDraws / 2)
		}
		begin = time.Now()
		close(start)
		<-done
		<-done
		two = append(two, float64(time.Since(begin))/float64(2*n))
	}
	if atomic.LoadInt64(&loads) != before {
		return nil, errors.New("a hit was a miss")
	}
	return figures{"alone_ns": median(alone), "two_threads_ns": median(two)}, nil
}
