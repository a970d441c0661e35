package helper

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAccount tells what was changed by whom, and says nothing when the clock was set.
func TestAccount(t *testing.T) {
	dir := t.TempDir()
	stat := func(name string) *unix.Stat_t {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Fatal(err)
		}
		return &st
	}
	var a account
	if err := a.begin(); err != nil {
		t.Fatal(err)
	}
	mine, other := filepath.Join(dir, "mine"), filepath.Join(dir, "other")
	for _, name := range []string{mine, other} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	a.excuse(stat(mine))
	if a.changed(stat(mine)) || !a.changed(stat(other)) || a.changed(stat(os.Args[0])) {
		t.Error("changes are not told apart")
	}
	if !a.reliable() {
		t.Error("no clock was set")
	}
	for _, set := range []time.Duration{-time.Second, 20 * time.Millisecond} {
		odd := a
		odd.offset += set
		if odd.reliable() {
			t.Errorf("a clock that was set by %v is believed", -set)
		}
	}
	r := &rootfs{path: dir}
	for name, want := range map[string]bool{"/absent": false, "/mine": false, "/": true} {
		b := account{}
		if err := b.empties(r, []string{name}); err != nil || b.other != want || b.reliable() && want {
			t.Errorf("%s: %v, %v", name, b.other, err)
		}
	}
}
