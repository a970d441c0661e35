package size

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time in nanoseconds, never negative when parsed.
type Duration time.Duration

// durationUnits returns how long the units are, by name.
func durationUnits() map[string]time.Duration {
	return map[string]time.Duration{
		"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second,
		"ms": time.Millisecond, "ns": time.Nanosecond,
		"us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond, // the micro sign, and the Greek letter
	}
}

// ParseDuration reads numbers with units such as "90s", "10m", "1h30m", "30d"
// or "1d 12h" and returns their sum. The units are w (7 days), d (24 hours), h,
// m, s, ms, us and ns. A fraction is computed exactly and rounded down to whole
// nanoseconds. Zero needs no unit. A sign, an exponent, a number without a
// unit, and anything above 2^63-1 nanoseconds (292 years) are errors.
func ParseDuration(s string) (Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "0" {
		return 0, nil
	}
	bad := fmt.Errorf(`bad duration %q: want numbers with a unit, w, d, h, m, s or ms, such as "90s" or "30d"`, s)
	if rest == "" {
		return 0, bad
	}
	var total int64
	units := durationUnits()
	for rest != "" {
		var number string
		number, rest = splitNumber(rest)
		end := strings.IndexAny(rest, "0123456789.")
		if end < 0 {
			end = len(rest)
		}
		unit := units[strings.TrimSpace(rest[:end])]
		if !isNumber(number) || len(number) > mostDigits || unit == 0 {
			return 0, bad
		}
		n, ok := scale(number, int64(unit))
		if !ok || n > math.MaxInt64-total {
			return 0, fmt.Errorf("bad duration %q: too long", s)
		}
		total, rest = total+n, rest[end:]
	}
	return Duration(total), nil
}

// String writes the duration exactly: whole days as "30d", others as "1h30m".
// ParseDuration reads it back as the same length.
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d == 0 {
		return "0"
	}
	if d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std is d as package time knows it.
func (d Duration) Std() time.Duration { return time.Duration(d) }
