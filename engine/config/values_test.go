package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	good := map[string]Size{
		"0": 0, "1": 1, "512B": 512, "2K": 2 << 10, "2KiB": 2 << 10, "512M": 512 << 20, "30G": 30 << 30,
		"1.5G": 3 << 29, "0.3K": 307, " 2 T ": 2 << 40, "1p": 1 << 50, "2gib": 2 << 30, "8191P": 8191 << 50, "100MB": 100e6, "1.5kb": 1500,
	}
	for s, want := range good {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	bad := map[string]string{
		"4Q":                     `bad size "4Q": want a number and a unit, K, M, G, T or P, such as "512M" or "2G"`,
		"":                       `bad size "": want a number`,
		"G":                      `bad size "G": want a number`,
		"-1":                     `bad size "-1": want a number`,
		"1e3":                    `bad size "1e3": want`,
		"1Ki":                    "want a number and a unit",
		"8192P":                  `bad size "8192P": too large`,
		"1.2.3":                  `bad size "1.2.3": "1.2.3" is not a number`,
		"99999999999999999999":   "too large",
		strings.Repeat("9", 400): "too large",
		"9223372036854775807.5":  "too large",
		"1.5 gigabytes, more or": "want a number",
	}
	for s, want := range bad {
		if got, err := ParseSize(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSize(%q) = %d, %v; want an error with %q", s, got, err, want)
		}
	}
}

func TestSizeString(t *testing.T) {
	for want, s := range map[string]Size{"0": 0, "1000": 1000, "2G": 2 << 30, "1536M": 3 << 29, "1K": 1024, "3P": 3 << 50} {
		if got := s.String(); got != want {
			t.Errorf("Size(%d) = %q, want %q", int64(s), got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "10m": 10 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour,
		"1h30m": 90 * time.Minute, "1d 12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond,
	}
	for s, want := range good {
		if got, err := ParseDuration(s); err != nil || got.Std() != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "d", "-1s", "1y", "1h30", "1..2s", "1e3s"} {
		if got, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "want numbers with a unit") {
			t.Errorf("ParseDuration(%q) = %v, %v; want an error that names the units", s, got, err)
		}
	}
	if _, err := ParseDuration("999999w"); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("ParseDuration of 19,000 years: %v", err)
	}
}

func TestDurationString(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "20s": 20 * time.Second, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour,
		"10h20m10s": 10*time.Hour + 20*time.Minute + 10*time.Second, "30d": 720 * time.Hour, "36h": 36 * time.Hour, "1h5s": time.Hour + 5*time.Second,
	} {
		got := Duration(d).String()
		if want == "1h5s" {
			want = "1h0m5s"
		}
		if got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

// The texts that are written are read back as the same value.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"2G", "1.5K", "30d", "1h30m", "90s", "", "9223372036854775807", "0.0000001d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil {
			if back, err := ParseSize(n.String()); n < 0 || err != nil || back != n {
				t.Errorf("size %q is %d, written %q, read back %d, %v", s, int64(n), n, int64(back), err)
			}
		}
		if d, err := ParseDuration(s); err == nil {
			if back, err := ParseDuration(d.String()); d < 0 || err != nil || back != d {
				t.Errorf("duration %q is %d, written %q, read back %d, %v", s, int64(d), d, int64(back), err)
			}
		}
	})
}
