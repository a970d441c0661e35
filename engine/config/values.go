package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, never negative when parsed. Its text is such as
// "2G": K, M, G, T and P, also written KiB and so on, are powers of 1024; KB,
// MB, GB, TB and PB are powers of 1000. Case does not matter, and a number
// without a unit counts bytes.
type Size int64

// The binary units, the largest first.
var sizeUnits = [...]struct {
	name            string
	binary, decimal int64
}{{"P", 1 << 50, 1e15}, {"T", 1 << 40, 1e12}, {"G", 1 << 30, 1e9}, {"M", 1 << 20, 1e6}, {"K", 1 << 10, 1e3}}

// ParseSize reads the text of a size. A fraction such as "1.5G" is rounded
// down to a whole byte.
func ParseSize(s string) (Size, error) {
	num, unit := splitNumber(s)
	bytes, ok := sizeUnit(unit)
	if num == "" || !ok {
		return 0, fmt.Errorf(`bad size %q: want a number and a unit, K, M, G, T or P, such as "512M" or "2G"`, s)
	}
	if n, err := strconv.ParseInt(num, 10, 64); err == nil {
		if n > math.MaxInt64/bytes {
			return 0, fmt.Errorf("bad size %q: too large", s)
		}
		return Size(n * bytes), nil
	}
	f, err := strconv.ParseFloat(num, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && f*float64(bytes) >= math.MaxInt64:
		return 0, fmt.Errorf("bad size %q: too large", s)
	case err != nil:
		return 0, fmt.Errorf("bad size %q: %q is not a number", s, num)
	}
	return Size(f * float64(bytes)), nil
}

func sizeUnit(unit string) (int64, bool) {
	unit = strings.ToUpper(strings.TrimSpace(unit))
	if unit == "" || unit == "B" {
		return 1, true
	}
	for _, u := range sizeUnits {
		switch unit {
		case u.name, u.name + "IB":
			return u.binary, true
		case u.name + "B":
			return u.decimal, true
		}
	}
	return 0, false
}

// splitNumber cuts s after its leading number, which may be empty.
func splitNumber(s string) (num, rest string) {
	s = strings.TrimSpace(s)
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// String writes the size exactly, in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.binary == 0 {
			return strconv.FormatInt(int64(s)/u.binary, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	n, err := ParseSize(string(b))
	if err == nil {
		*s = n
	}
	return err
}

// Duration is a length of time, never negative when parsed. Its text is such
// as "90s", "10m", "30d" or "1h30m"; the units are w, d (24 hours), h, m, s
// and ms.
type Duration time.Duration

var durationUnits = map[string]time.Duration{
	"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour,
	"m": time.Minute, "s": time.Second, "ms": time.Millisecond,
}

// ParseDuration reads the text of a duration, rounded to milliseconds. Zero
// needs no unit.
func ParseDuration(s string) (Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "0" {
		return 0, nil
	}
	bad := fmt.Errorf(`bad duration %q: want numbers with a unit, w, d, h, m, s or ms, such as "90s" or "30d"`, s)
	if rest == "" {
		return 0, bad
	}
	var total float64
	for rest != "" {
		var num string
		num, rest = splitNumber(rest)
		n, err := strconv.ParseFloat(num, 64)
		end := strings.IndexAny(rest, "0123456789.")
		if end < 0 {
			end = len(rest)
		}
		unit, ok := durationUnits[strings.TrimSpace(rest[:end])]
		if err != nil || !ok {
			return 0, bad
		}
		total += n * float64(unit)
		rest = rest[end:]
	}
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("bad duration %q: too long", s)
	}
	return Duration(math.Round(total/1e6) * 1e6), nil
}

// String writes whole days as "30d", other durations as "1h30m".
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d == 0 {
		return "0"
	}
	if d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := strings.Replace(time.Duration(d).String(), "m0s", "m", 1)
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std is d as package time knows it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	n, err := ParseDuration(string(b))
	if err == nil {
		*d = n
	}
	return err
}
