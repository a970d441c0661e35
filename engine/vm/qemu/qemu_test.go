package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/tool"
	"b9.build/b9/engine/vm"
)

// TestProbe starts the smallest guest where it runs in any case, and gives up one that
// takes too long.
func TestProbe(t *testing.T) {
	path, err := tool.Find(vm.Program)
	if err != nil {
		t.Skip(err)
	}
	if err := runProbe(t.Context(), path, "tcg", time.Minute); err != nil {
		t.Error(err)
	}
	if err := runProbe(t.Context(), path, "tcg", time.Nanosecond); err == nil || !strings.Contains(err.Error(), "did not get to its end within 1ns") {
		t.Errorf("without patience: %v", err)
	}
	if err := runProbe(t.Context(), path, "none", time.Minute); err == nil || !strings.Contains(err.Error(), "runs no guest: -accel none: invalid accelerator none") {
		t.Errorf("an accelerator that is none: %v", err)
	}
	if err := probe(t.Context(), "/dev/no-kvm"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a node: %v", err)
	}
}

// TestKeepVars copies variables once, and gives none that are cut off their name.
func TestKeepVars(t *testing.T) {
	dir := t.TempDir()
	from, kept := filepath.Join(dir, "from"), filepath.Join(dir, "m.vars")
	if err := os.WriteFile(from, []byte("as they begin"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", kept+".new"); err != nil {
		t.Fatal(err)
	}
	if err := keepVars(from, kept); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if _, err := os.Lstat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("on a full disk the name is there: %v", err)
	}
	if err := os.Remove(kept + ".new"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := keepVars(from, kept); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(kept); err != nil || string(got) != "as they begin" {
			t.Errorf("kept are %q, %v", got, err)
		}
		if err := os.WriteFile(from, []byte("of a newer firmware"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGrace gives QEMU minutes for what it has yet to write, where that is kept.
func TestGrace(t *testing.T) {
	if kept, thrown := (&Options{Keep: "dir"}).grace(), (&Options{}).grace(); kept < time.Minute || thrown > 10*time.Second {
		t.Errorf("%v where it is kept, %v where it is thrown away", kept, thrown)
	}
}

func TestParseForward(t *testing.T) {
	for text, want := range map[string]Forward{"8080:80": {8080, 80}, "0:22": {0, 22}, "65535:65535": {65535, 65535}} {
		if got, err := ParseForward(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "80", ":80", "80:", "80:0", "65536:1", "1:65536", "-1:1", "a:b", "0.0.0.0:80:80", "80:80:80", "80:80,hostfwd=tcp::1-:1"} {
		if got, err := ParseForward(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestNetworks(t *testing.T) {
	for kind, ok := range map[string]bool{"": true, "user": true, "none": true, "bridge:br0": true, "bridge:": false, "bridge:a,b": false, "bridge:sixteen-letters-": false, "nat": false, "users": false} {
		if err := CheckNetwork(kind); (err == nil) != ok {
			t.Errorf("%q: %v", kind, err)
		}
	}
	two := []Forward{{8080, 80}, {0, 22}}
	for kind, want := range map[string][]string{
		"":           {"user,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:0-:22", "user"},
		"none":       {"", ""},
		"bridge:br0": {"bridge,br=br0", "bridge,br=br0"},
	} {
		if got := (Network{Kind: kind, Forwards: two}).backends(2); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q", kind, got)
		}
	}
}
