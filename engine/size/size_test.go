package size

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Bytes{
		"0": 0, "1": 1, "4096": 4096, "17B": 17, "512B": 512, "4G": 4 << 30, "512M": 512 << 20, "512MiB": 512 << 20, "1.5GiB": 3 << 29,
		"100MB": 100e6, "1.5kb": 1500, " 2 t ": 2 << 40, "1k": 1024, "1KiB": 1024, "1kb": 1000, "0.5K": 512, "0.3K": 307, "7P": 7 << 50,
		"1p": 1 << 50, "2gib": 2 << 30, "1.0001K": 1024, ".5G": 512 << 20, "5.G": 5 << 30, "9223372036854775807": math.MaxInt64,
		"8191P": 8191 << 50, "9007199254740993.5": 1<<53 + 1,
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", s, int64(got), err, int64(want))
		}
	}
	for s, want := range map[string]string{
		"4Q": `size "4Q": unknown unit "Q" (have K, M, G, T, P or KiB`,
		"":   `size "": is empty (write a number and a unit, such as 4G)`, "-1G": "is negative", "+1": "is not a number and a unit",
		"1.2.3G": "is not a number", "G": "is not a number", ".G": "is not a number", "1Ki": "unknown unit", "1e9": "unknown unit",
		"0x10": "unknown unit", "1.5 gigabytes, more or": "unknown unit", "8192P": "is above the largest size, 8191.9PiB",
		"9223372036854775808": "above the largest", "99999999999999999999": "above the largest", strings.Repeat("9", 99): "too many digits",
	} {
		if got, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %d, %v; want an error with %q", s, int64(got), err, want)
		}
	}
}

func TestString(t *testing.T) {
	for want, b := range map[string]Bytes{
		"0B": 0, "1000B": 1000, "512MiB": 512 << 20, "2GiB": 2 << 30, "1536MiB": 3 << 29, "1KiB": 1024, "3PiB": 3 << 50, "4294967297B": 1<<32 + 1, "-5MiB": -5 << 20,
	} {
		if got := b.String(); got != want {
			t.Errorf("%d is written %q, want %q", int64(b), got, want)
		}
	}
}

func TestAbout(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 512 << 20: "512MiB", 4 << 30: "4GiB", 4<<30 + 1: "4.0GiB",
		math.MaxInt64: "8191.9PiB", -5 << 20: "-5MiB", math.MinInt64: "-8191.9PiB",
	} {
		if got := About(n); got != want {
			t.Errorf("About(%d) = %q, want %q", n, got, want)
		}
	}
}

// Whatever is written is read back: exactly what String writes, and what About
// writes up to half of its last digit.
func TestWrittenIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		n := r.Int64() >> r.IntN(63)
		if shift := r.IntN(60); n>>shift > 0 {
			n = n >> shift << shift
		}
		checkWritten(t, Bytes(n))
	}
	checkWritten(t, math.MaxInt64)
}

func checkWritten(t *testing.T, b Bytes) {
	t.Helper()
	if back, err := Parse(b.String()); err != nil || back != b {
		t.Errorf("%d is written %q and read %d, %v", int64(b), b, int64(back), err)
	}
	about, err := Parse(About(int64(b)))
	if off := math.Abs(float64(about) - float64(b)); err != nil || off > float64(b)*0.051 {
		t.Errorf("%d is about %q, which is read %d, %v", int64(b), About(int64(b)), int64(about), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"4G", "1.5GiB", "4Q", "-1", "100 MB", "", ".5G", "1.5K", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("%q is %d", s, int64(n))
		}
		checkWritten(t, n)
	})
}
