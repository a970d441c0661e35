package container

import (
	"math"
	"testing"
	"time"
)

// TestTimeLimits multiplies time limits, within what a duration can be.
func TestTimeLimits(t *testing.T) {
	for _, c := range []struct {
		own, general time.Duration
		slower       float64
		want         time.Duration
	}{
		{0, 0, 3, 0},
		{time.Minute, time.Hour, 0, time.Minute},
		{time.Minute, time.Hour, 1.5, 90 * time.Second},
		{0, time.Hour, 2, 2 * time.Hour},
		{1, 0, 0.01, 1},
		{math.MaxInt64, 0, 1000, math.MaxInt64},
		{-1, 0, 2, -1}, // which is refused
	} {
		d := Defaults{Timeout: c.general, Slower: c.slower}
		if got := d.Fill(Spec{Timeout: c.own}).Timeout; got != c.want {
			t.Errorf("%v, %v, times %v: %v, want %v", c.own, c.general, c.slower, got, c.want)
		}
	}
}
