package size

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "10m": 10 * time.Minute, "1d": 24 * time.Hour, "30d": 720 * time.Hour, "2w": 336 * time.Hour,
		"1h30m": 90 * time.Minute, "1d 12h": 36 * time.Hour, "1.5h": 90 * time.Minute, ".5h": 30 * time.Minute, "250ms": 250 * time.Millisecond,
		"1.5us": 1500, "2µs": 2000, "2μs": 2000, "7ns": 7, "0.0000001d": 8640 * time.Microsecond, "9223372036854775807ns": math.MaxInt64,
	} {
		if got, err := ParseDuration(s); err != nil || got.Std() != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got.Std(), err, want)
		}
	}
	for _, s := range []string{"", "5", "d", "-1s", "+1s", "1y", "1h30", "1..2s", "1e3s", ".s", "1 30m"} {
		if got, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "want numbers with a unit") {
			t.Errorf("ParseDuration(%q) = %v, %v; want an error that names the units", s, got, err)
		}
	}
	for _, s := range []string{"999999w", "9223372036854775807ns 1ns"} {
		if _, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("ParseDuration(%q): %v; want an error that says too long", s, err)
		}
	}
}

func TestDurationString(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "20s": 20 * time.Second, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour,
		"10h20m10s": 10*time.Hour + 20*time.Minute + 10*time.Second, "30d": 720 * time.Hour, "36h": 36 * time.Hour,
		"1h0m5s": time.Hour + 5*time.Second, "250ms": 250 * time.Millisecond, "1.5µs": 1500, "1h30m": 90 * time.Minute,
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"30d", "1h30m", "90s", "", "0.0000001d", "1.5us", "1d 12h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if back, err := ParseDuration(d.String()); d < 0 || err != nil || back != d {
			t.Errorf("duration %q is %d, written %q, read back %d, %v", s, int64(d), d, int64(back), err)
		}
	})
}
