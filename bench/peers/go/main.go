// SPDX-License-Identifier: Apache-2.0

// The same work as bench/flight and bench/sync, done with golang.org/x/sync, and part of
// bench/cache, done with groupcache.
//
// Each run executes one scenario once, in a fresh process, and prints one JSON object of figures on
// standard output. The driver (bench/run) sets GOMAXPROCS and interleaves these runs with ours.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
)

// figures are what a scenario measured, by name; the names are the ones our own programs print.
type figures map[string]float64

func main() {
	scenario := flag.String("scenario", "",
		"do | fan-in | fan-in-limits | stampede | semaphore | permit-fan-in | errgroup | cache")
	repetitions := flag.Int("repetitions", 5,
		"do, semaphore, errgroup, cache: repetitions, of which the median counts")
	calls := flag.Int("calls", 500_000, "do, semaphore, cache: calls in one repetition")
	waiters := flag.Int("waiters", 1_000_000, "fan-in: goroutines blocked in Do")
	turns := flag.Int("turns", 51, "permit-fan-in: turns, of which the median counts")
	rate := flag.Float64("rate", 100_000, "stampede: requests per second")
	seconds := flag.Float64("seconds", 5, "stampede: how long requests keep arriving")
	seed := flag.Uint64("seed", 42, "stampede: seed of arrivals and keys")
	dispatchers := flag.Int("dispatchers", 1, "stampede: goroutines that start the requests")
	tasks := flag.Int("tasks", 1_000_000, "errgroup: tasks in one repetition")
	limit := flag.Int("limit", 0, "errgroup: tasks that run at a time; 0: no limit")
	flag.Parse()

	var result figures
	var err error
	switch *scenario {
	case "do":
		result, err = benchDo(*repetitions, *calls)
	case "fan-in":
		result, err = fanIn(*waiters)
	case "fan-in-limits":
		result, err = fanInWithLimits(*waiters)
	case "semaphore":
		result, err = benchSemaphore(*repetitions, *calls)
	case "permit-fan-in":
		result, err = permitFanIn(*waiters, *turns)
	case "stampede":
		result, err = stampede(*rate, *seconds, *seed, *dispatchers)
	case "errgroup":
		result, err = errGroup(*repetitions, *tasks, *limit)
	case "cache":
		result, err = benchCache(*repetitions, *calls)
	default:
		err = fmt.Errorf("unknown -scenario %q: -help lists them", *scenario)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go peer:", err)
		os.Exit(1)
	}
	result["gomaxprocs"] = float64(runtime.GOMAXPROCS(0))
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "go peer:", err)
		os.Exit(1)
	}
}
