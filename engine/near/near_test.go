package near

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name string
		have []string
		want string
	}{
		{"qcow3", []string{"raw", "qcow2", "vmdk"}, "qcow2"},
		{"vmkd", []string{"qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk"}, "vmdk"},
		{"prot", []string{"port"}, "port"},
		{"SIZE", []string{"size"}, "size"},
		{"streamoptimized", []string{"monolithicSparse", "streamOptimized"}, "streamOptimized"},
		{"formt", []string{"from", "format"}, "format"},
		{"gtp", []string{"gpt", "mbr"}, "gpt"},
		{"x", []string{"a", "b"}, "a"}, // the first of equals
		{"zzz", []string{"raw", "iso"}, ""},
		{"abcdef", []string{"abcxyz"}, ""},
		{"abcdef", []string{"abcdxy"}, "abcdxy"},
		{"", []string{"a", "abc"}, ""},
		{"x", nil, ""},
		{strings.Repeat("a", 257), []string{strings.Repeat("a", 257)}, ""},
	} {
		if got := Match(c.name, c.have); got != c.want {
			t.Errorf("Match(%q, %q) = %q, want %q", c.name, c.have, got, c.want)
		}
	}
}

func TestHint(t *testing.T) {
	if got, want := Hint("prot", []string{"host", "port"}), `: did you mean "port"?`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Hint("zzz", []string{"host"}); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"ab", "ba", 1}, {"abcd", "badc", 2},
		{"ca", "abc", 3}, // a swapped pair is not edited again
		{"kitten", "sitting", 3},
	} {
		for _, p := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := distance(p[0], p[1], 100); got != c.want {
				t.Errorf("%q and %q: %d, want %d", p[0], p[1], got, c.want)
			}
			if got := distance(p[0], p[1], 2); got != min(c.want, 2) {
				t.Errorf("%q and %q, bounded: %d, want %d", p[0], p[1], got, min(c.want, 2))
			}
		}
	}
}
