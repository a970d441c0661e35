package qemu

import (
	"reflect"
	"strings"
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
		if got := (Network{kind, two}).backends(2); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q", kind, got)
		}
	}
}
