package fsys

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// sizeUnits are the accepted unit names, lower case, in bytes. A bare letter
// is binary, as in qemu-img and lvm; "MB" is decimal, as on a disk's box.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"", 1}, {"b", 1},
	{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40}, {"p", 1 << 50},
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40}, {"pib", 1 << 50},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"pb", 1e15},
}

const unitHelp = "K, M, G, T, P or KiB, MiB, GiB, TiB, PiB (powers of 1024), KB, MB, GB, TB, PB (powers of 1000), B"

// ParseSize reads a size such as "4G", "512M", "1.5GiB", "100MB" or "4096" and
// returns bytes. Units ignore case; K, M, G, T, P and KiB to PiB are powers of
// 1024, KB to PB powers of 1000, no unit and B are bytes. A fraction is allowed
// when the result is a whole number of bytes after rounding down. Zero is a
// size; a sign, an exponent, and anything above 2^63-1 bytes are errors.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	cut := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	number, unit := text, ""
	if cut >= 0 {
		number, unit = text[:cut], strings.ToLower(strings.TrimSpace(text[cut:]))
	}
	if err := checkNumber(text, number); err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	factor := int64(-1)
	for _, u := range sizeUnits {
		if u.name == unit {
			factor = u.bytes
		}
	}
	if factor < 0 {
		return 0, fmt.Errorf("size %q: unknown unit %q (have %s)", s, text[cut:], unitHelp)
	}
	n, err := scale(number, factor)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	return n, nil
}

// checkNumber accepts digits with at most one point between them.
func checkNumber(text, number string) error {
	switch {
	case text == "":
		return errors.New("is empty (write a number and a unit, such as 4G)")
	case text[0] == '-':
		return errors.New("is negative")
	case number == "" || number[0] == '.' || number[len(number)-1] == '.' || strings.Count(number, ".") > 1:
		return errors.New("is not a number and a unit, such as 4G or 1.5GiB")
	case len(number) > 40:
		return errors.New("has too many digits")
	}
	return nil
}

// scale multiplies a decimal number exactly and rounds down to whole bytes.
func scale(number string, factor int64) (int64, error) {
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errors.New("is not a number")
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsInt64() {
		return 0, fmt.Errorf("is above the largest size, %s", FormatSize(math.MaxInt64))
	}
	return n.Int64(), nil
}

// FormatSize writes a size so that a person sees its order: exact with a binary
// unit where that is a whole number ("4GiB", "512MiB"), else with one decimal
// ("1.5GiB"), bytes below 1 KiB ("100B"). ParseSize reads it back, exactly only
// where there is no decimal point.
func FormatSize(n int64) string {
	if n < 0 {
		return "-" + FormatSize(-max(n, -math.MaxInt64))
	}
	units := "KMGTP"
	for i := len(units) - 1; i >= 0; i-- {
		unit := int64(1) << (10 * (i + 1))
		switch {
		case n < unit:
		case n%unit == 0:
			return strconv.FormatInt(n/unit, 10) + units[i:i+1] + "iB"
		default:
			return strconv.FormatFloat(float64(n)/float64(unit), 'f', 1, 64) + units[i:i+1] + "iB"
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
