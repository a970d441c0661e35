// Package seedtest draws the moments at which tests kill, cut and tamper, all from one
// seed: the variable B9_SEED, else the time. A test prints the seed, so that the same
// moments can be tried again. Only tests import it. Of b9 it imports nothing.
//
//	Random   random numbers for a test, the same for the same seed and name
//	Moments  random durations, for several goroutines
//	Seed     the seed itself, for a process that is no test
package seedtest

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Variable is the environment's name for the seed: a decimal number of 64 bits.
const Variable = "B9_SEED"

// Seed is what the environment says, else a number that is another each time.
func Seed() uint64 {
	seed, err := strconv.ParseUint(os.Getenv(Variable), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	return seed
}

// Random is a source for one test, which logs the seed. The test's name counts, so that
// a test draws the same whatever runs beside it.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := Seed()
	t.Logf("%s=%d", Variable, seed)
	name := fnv.New64a()
	name.Write([]byte(t.Name()))
	return rand.New(&locked{source: rand.NewPCG(seed, name.Sum64())})
}

// locked is a source that several goroutines may draw from. What each of them draws
// depends on their order: a test of parallel parts draws in each part for itself.
type locked struct {
	mu     sync.Mutex
	source rand.Source
}

func (l *locked) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source.Uint64()
}

// Moments returns a function that draws a duration from zero on, below another.
func Moments(t testing.TB) func(below time.Duration) time.Duration {
	t.Helper()
	random := Random(t)
	return func(below time.Duration) time.Duration {
		return time.Duration(random.Int64N(int64(below)))
	}
}
