// Package size reads and writes sizes and durations the way people do. Build
// files, the configuration, the command line and reports all use it, so that
// a text means the same wherever it stands.
//
//	Bytes     a number of bytes: Parse reads one, String writes it exactly
//	About     a number of bytes as a report shows it, with one decimal at most
//	Duration  a length of time: ParseDuration reads one, String writes it exactly
//
// A size is written with an IEC unit right behind the number: "512MiB", "0B".
// People may also write "512M" and mean the same. What is written says MiB,
// because M alone means 10^6 bytes to many tools and 2^20 to others, and
// because "100MB" is read as 10^8 bytes here. Parse reads all that is written.
//
// The package imports nothing of b9. It does not read what other tools print.
package size

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Bytes is a number of bytes, never negative when parsed.
type Bytes int64

// units are the binary units, the largest first, and their decimal namesakes.
var units = [...]struct {
	name            string
	binary, decimal int64
}{
	{"P", 1 << 50, 1e15}, {"T", 1 << 40, 1e12}, {"G", 1 << 30, 1e9}, {"M", 1 << 20, 1e6}, {"K", 1 << 10, 1e3},
}

const (
	unitHelp = "K, M, G, T, P or KiB, MiB, GiB, TiB, PiB (powers of 1024), KB, MB, GB, TB, PB (powers of 1000), B"
	// mostDigits bounds the numbers that are computed with.
	mostDigits = 40
)

// Parse reads a size such as "4G", "512M", "1.5GiB", ".5G", "100MB" or "4096".
// Units ignore case; K, M, G, T, P and KiB to PiB are powers of 1024, KB to PB
// powers of 1000, and no unit and B mean bytes. A fraction is computed exactly
// and rounded down to whole bytes. Zero is a size. An error begins with the
// text; a sign, an exponent, an unknown unit, and anything above 2^63-1 bytes
// are errors.
func Parse(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	number, unit := splitNumber(text)
	factor, known := factorOf(unit)
	if err := checkNumber(text, number); err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	if !known {
		return 0, fmt.Errorf("size %q: unknown unit %q (have %s)", s, unit, unitHelp)
	}
	n, ok := scale(number, factor)
	if !ok {
		return 0, fmt.Errorf("size %q: is above the largest size, %s", s, About(math.MaxInt64))
	}
	return Bytes(n), nil
}

// splitNumber cuts s after its leading digits and points, which may be none.
func splitNumber(s string) (number, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// factorOf returns how many bytes a unit is.
func factorOf(unit string) (bytes int64, known bool) {
	unit = strings.ToUpper(strings.TrimSpace(unit))
	if unit == "" || unit == "B" {
		return 1, true
	}
	for _, u := range units {
		switch unit {
		case u.name, u.name + "IB":
			return u.binary, true
		case u.name + "B":
			return u.decimal, true
		}
	}
	return 0, false
}

// checkNumber accepts digits with at most one point.
func checkNumber(text, number string) error {
	switch {
	case text == "":
		return errors.New("is empty (write a number and a unit, such as 4G)")
	case text[0] == '-':
		return errors.New("is negative")
	case !isNumber(number):
		return errors.New("is not a number and a unit, such as 4G or 1.5GiB")
	case len(number) > mostDigits:
		return errors.New("has too many digits")
	}
	return nil
}

// isNumber reports whether digits and points make a decimal number: "1", "1.5",
// ".5" and "1." do.
func isNumber(s string) bool {
	points := strings.Count(s, ".")
	return points <= 1 && len(s) > points
}

// scale multiplies a decimal number exactly and rounds down. ok is false when
// the result is above 2^63-1.
func scale(number string, factor int64) (n int64, ok bool) {
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, false
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	whole := new(big.Int).Quo(r.Num(), r.Denom())
	return whole.Int64(), whole.IsInt64()
}

// String writes the size exactly, in the largest unit that divides it: "2GiB",
// "1536MiB", "1000B". Parse reads it back as the same number.
func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && int64(b)%u.binary == 0 {
			return strconv.FormatInt(int64(b)/u.binary, 10) + u.name + "iB"
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// About writes n bytes so that a person sees their order: in the largest unit
// that is not above n, exactly where that is a whole number ("4GiB") and else
// with one decimal ("1.5GiB"). Parse reads it back, up to that rounding. A
// negative n, a difference, gets a minus sign, which Parse refuses.
func About(n int64) string {
	if n < 0 {
		return "-" + About(-max(n, -math.MaxInt64))
	}
	for _, u := range units {
		if n >= u.binary && n%u.binary != 0 {
			// 8191.95P and more would be rounded up to 2^63, which is no size.
			about := min(float64(n)/float64(u.binary), 8191.9)
			return strconv.FormatFloat(about, 'f', 1, 64) + u.name + "iB"
		}
		if n >= u.binary {
			return strconv.FormatInt(n/u.binary, 10) + u.name + "iB"
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
