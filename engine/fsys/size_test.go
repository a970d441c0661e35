package fsys

import (
	"math"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "4096": 4096, "17B": 17, "4G": 4 << 30, "512M": 512 << 20, "1.5GiB": 3 << 29, "100MB": 100e6,
		" 2 t ": 2 << 40, "1k": 1024, "1KiB": 1024, "1kb": 1000, "0.5K": 512, "7P": 7 << 50, "1.0001K": 1024,
		"9223372036854775807": math.MaxInt64, "8191P": 8191 << 50,
	} {
		got, err := ParseSize(s)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"4Q": "unknown unit \"Q\" (have K, M, G, T, P", "": "empty", "-1G": "negative", "+1": "not a number",
		"1.2.3G": "not a number", ".5G": "not a number", "5.G": "not a number", "G": "not a number", "8192P": "above the largest",
		"9223372036854775808": "above the largest", "1e9": "unknown unit", "0x10": "unknown unit", strings.Repeat("1", 99): "digits",
	} {
		_, err := ParseSize(s)
		wantError(t, err, "size ", want)
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 4 << 30: "4GiB", 4<<30 + 1: "4.0GiB",
		math.MaxInt64: "8192.0PiB", -5 << 20: "-5MiB", math.MinInt64: "-8192.0PiB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"4G", "1.5GiB", "4Q", "-1", "100 MB", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("%q is %d", s, n)
		}
		if text := FormatSize(n); !strings.Contains(text, ".") {
			if back, err := ParseSize(text); err != nil || back != n {
				t.Fatalf("%d is written %q and read %d, %v", n, text, back, err)
			}
		}
	})
}
