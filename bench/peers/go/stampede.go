// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"math"
	"runtime"
	"sort"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	stampedeKeys = 10_000
	zipfSkew     = 0.99
	loadTime     = time.Millisecond
	latencyUnit  = 100 * time.Nanosecond // 32 bits of it reach seven minutes
)

// random is splitmix64, as in bench/support/workload.hpp, so that both sides get one workload.
type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}

func (r *random) unit() float64 { return float64(r.next()>>11) / float64(uint64(1)<<53) }

// zipf draws ranks; the most popular is 0.
type zipf struct{ cumulative []float64 }

func newZipf(keys int, skew float64) zipf {
	cumulative := make([]float64, keys)
	sum := 0.0
	for i := range cumulative {
		sum += 1 / math.Pow(float64(i+1), skew)
		cumulative[i] = sum
	}
	return zipf{cumulative}
}

func (z zipf) rank(draw *random) int {
	last := len(z.cumulative) - 1
	chosen := sort.SearchFloat64s(z.cumulative, draw.unit()*z.cumulative[last])
	if chosen > last {
		chosen = last
	}
	return chosen
}

// arrivals returns when each request is due (nanoseconds from the start) and its key's rank.
func arrivals(rate, seconds float64, seed uint64) ([]int64, []uint16) {
	ranks := newZipf(stampedeKeys, zipfSkew)
	expected := int(rate*seconds*1.05) + 1000
	due, key := make([]int64, 0, expected), make([]uint16, 0, expected)
	draw := random{seed}
	for at := 0.0; ; {
		at += -math.Log(1-draw.unit()) / rate
		if at >= seconds {
			return due, key
		}
		due, key = append(due, int64(at*1e9)), append(key, uint16(ranks.rank(&draw)))
	}
}

// stampede starts a goroutine per request when it is due, whether or not earlier ones are done.
func stampede(rate, seconds float64, seed uint64, dispatchers int) (figures, error) {
	if rate <= 0 || seconds <= 0 || dispatchers < 1 {
		return nil, errors.New("a stampede needs a positive rate, time and number of dispatchers")
	}
	due, keyOf := arrivals(rate, seconds, seed)
	if len(due) == 0 {
		return nil, errors.New("no request is due at this rate in this time")
	}
	keys := makeKeys("key:", stampedeKeys)
	latency := make([]uint32, len(due)) // 0: not completed
	for i := range latency {
		latency[i] = 1 // touch the pages before the clock runs
	}
	for i := range latency {
		latency[i] = 0
	}

	var group singleflight.Group
	var loads int64
	load := func() (interface{}, error) {
		atomic.AddInt64(&loads, 1)
		time.Sleep(loadTime)
		return boxed, nil
	}
	begin := time.Now()
	request := func(i int) {
		if _, err, _ := group.Do(keys[keyOf[i]], load); err != nil {
			panic(err)
		}
		took := (int64(time.Since(begin)) - due[i]) / int64(latencyUnit)
		atomic.StoreUint32(&latency[i], uint32(took)+1)
	}
	dispatch := func(first int) {
		for i := first; i < len(due); {
			now := int64(time.Since(begin))
			for ; i < len(due) && due[i] <= now; i += dispatchers {
				go request(i)
			}
			// Sleeping until the next arrival costs Go a tenth of its highest rate: a sleep of less than
			// a millisecond is rounded up to one. Yielding lets every runnable goroutine run first.
			runtime.Gosched()
		}
	}
	for i := 0; i < dispatchers; i++ {
		go dispatch(i)
	}

	window := time.Duration(seconds * float64(time.Second))
	time.Sleep(time.Until(begin.Add(window)))
	const grace = 2 * time.Second // stragglers count as late, not as lost
	for end := begin.Add(window + grace); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		missing := false
		for i := len(latency) - 1; i >= 0 && !missing; i-- {
			missing = atomic.LoadUint32(&latency[i]) == 0
		}
		if !missing {
			break
		}
	}
	return summary(due, latency, window, loads), nil
}

// summary counts completions within the window; latencies include those of the grace period.
func summary(due []int64, latency []uint32, window time.Duration, loads int64) figures {
	inTime := 0
	sorted := make([]uint32, len(latency))
	for i := range latency {
		took := atomic.LoadUint32(&latency[i])
		if took == 0 {
			sorted[i] = math.MaxUint32
			continue
		}
		sorted[i] = took - 1
		if due[i]+int64(took-1)*int64(latencyUnit) <= int64(window) {
			inTime++
		}
	}
	sort.Slice(sorted, func(a, b int) bool { return sorted[a] < sorted[b] })
	at := func(quantile float64) float64 {
		value := sorted[int(quantile*float64(len(sorted)-1))]
		return float64(value) * float64(latencyUnit) / float64(time.Millisecond)
	}
	return figures{
		"due":       float64(len(due)),
		"completed": float64(inTime) / float64(len(due)),
		"loads":     float64(loads),
		"p50_ms":    at(0.50),
		"p99_ms":    at(0.99),
		"p999_ms":   at(0.999),
		"max_ms":    at(1),
	}
}
