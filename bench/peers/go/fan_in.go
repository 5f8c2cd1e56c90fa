// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// residentBytes returns the resident anonymous memory, as our own programs do.
func residentBytes() (float64, error) {
	file, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == "Anonymous:" {
			kibibytes, err := strconv.ParseFloat(fields[1], 64)
			return kibibytes * 1024, err
		}
	}
	return 0, errors.New("no Anonymous in /proc/self/smaps_rollup")
}

const hotKey = "key:000000000000"

// wait makes one call on the hot key and returns once it has its outcome.
type wait func(group *singleflight.Group, load func() (interface{}, error)) error

// fanInWith starts n goroutines that wait on one key while its load is held back, then ends the
// load.
func fanInWith(n int, call wait) (figures, error) {
	if n < 1 {
		return nil, errors.New("a fan-in needs one waiter at least")
	}
	var group singleflight.Group
	var loads, joined, answered, failed int64
	var loadEnded, allJoined, allAnswered time.Time
	begun, release, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
	load := func() (interface{}, error) {
		if atomic.AddInt64(&loads, 1) == 1 {
			close(begun)
		}
		<-release
		loadEnded = time.Now()
		return boxed, nil
	}
	go group.Do(hotKey, load)
	<-begun

	before, err := residentBytes()
	if err != nil {
		return nil, err
	}
	everybody := int64(n)
	begin := time.Now()
	for i := 0; i < n; i++ {
		go func() {
			if atomic.AddInt64(&joined, 1) == everybody {
				allJoined = time.Now()
			}
			if call(&group, load) != nil {
				atomic.AddInt64(&failed, 1)
			}
			if atomic.AddInt64(&answered, 1) == everybody {
				allAnswered = time.Now()
				close(finished)
			}
		}()
	}
	for atomic.LoadInt64(&joined) < everybody {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // the last few may not be waiting yet
	after, err := residentBytes()
	if err != nil {
		return nil, err
	}
	close(release)
	<-finished
	if loads != 1 || failed != 0 {
		return nil, fmt.Errorf("%d loads and %d failed waits instead of 1 and 0", loads, failed)
	}
	runtime.KeepAlive(&group)
	return figures{
		"join_ns":          float64(allJoined.Sub(begin)) / float64(n),
		"wake_ns":          float64(allAnswered.Sub(loadEnded)) / float64(n),
		"bytes_per_waiter": (after - before) / float64(n),
		"waiters":          float64(n),
	}, nil
}

func fanIn(n int) (figures, error) {
	return fanInWith(n, func(group *singleflight.Group, load func() (interface{}, error)) error {
		_, err, _ := group.Do(hotKey, load)
		return err
	})
}

// fanInWithLimits gives each waiter a deadline of its own and one token that all share, the way a
// Go service does it.
func fanInWithLimits(n int) (figures, error) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	deadline := time.Now().Add(time.Hour)
	return fanInWith(n, func(group *singleflight.Group, load func() (interface{}, error)) error {
		limited, leave := context.WithDeadline(parent, deadline)
		defer leave()
		select {
		case result := <-group.DoChan(hotKey, load):
			return result.Err
		case <-limited.Done():
			return limited.Err()
		}
	})
}
