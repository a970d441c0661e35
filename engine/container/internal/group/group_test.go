package group

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOwner(t *testing.T) {
	start, err := parseStartTime("12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0")
	if err != nil || start != 4711 {
		t.Errorf("got %d, %v", start, err)
	}
	if _, err := parseStartTime("12 (short) S"); err == nil {
		t.Error("a short line has no error")
	}
	for name, dead := range map[string]bool{
		OwnerTag() + ".x":                     false,
		OwnerTag():                            false,
		fmt.Sprintf("b9.%d.1.x", os.Getpid()): true, // the id was used again
		"b9.4194305.5.x":                      true, // above the largest process id
		"b9.1.x.x":                            false,
		"b9.-1.1.x":                           false,
		"other.4194305.5.x":                   false,
		"b9":                                  false,
		"":                                    false,
	} {
		if OwnerDead(name) != dead {
			t.Errorf("owner of %q dead: %v, want %v", name, !dead, dead)
		}
	}
}

func TestReap(t *testing.T) {
	var root string
	for _, dir := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		probe := filepath.Join(dir, "b9-probe")
		if os.Mkdir(probe, 0o755) == nil {
			os.Remove(probe)
			root = dir
			break
		}
	}
	if root == "" || os.Geteuid() != 0 {
		t.Skip("no control groups that can be made here")
	}
	dead, alive := filepath.Join(root, "b9.4194305.5.x"), filepath.Join(root, OwnerTag()+".reap")
	for _, dir := range []string{dead, alive} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
	}
	if err := Reap(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("a dead owner's group is still there")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("a live owner's group: %v", err)
	}
}

func TestCounters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	write(t, file, []byte("low 0\noom 9\noom_kill 3\noom_group_kill 7\n"))
	c := openCounter(file)
	defer c.Close()
	if c.Kills() != 0 {
		t.Errorf("counts %d from before", c.Kills())
	}
	write(t, file, []byte("oom_kill 5\n"))
	if c.Kills() != 2 {
		t.Errorf("counts %d, want 2", c.Kills())
	}
	for _, none := range []Counter{openCounter(""), openCounter("/no/such")} {
		if none.Kills() != 0 {
			t.Error("a file that is not there counts")
		}
	}
}

func TestParseMemberships(t *testing.T) {
	got := parseMemberships("4:memory:/a:b\n3:cpu,cpuacct:/\n0::/x\nodd\n")
	want := []membership{{"memory", "/a:b"}, {"cpu,cpuacct", "/"}, {"", "/x"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseStartTime(f *testing.F) {
	f.Add("12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0")
	f.Add(")")
	f.Fuzz(func(_ *testing.T, stat string) { _, _ = parseStartTime(stat) })
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
