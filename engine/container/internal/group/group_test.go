package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
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

// TestUnifiedPlaces finds where the whole hierarchy is, and nothing else.
func TestUnifiedPlaces(t *testing.T) {
	got := unifiedPlaces(`31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:10 master:3 - cgroup2 cgroup2 rw
42 31 0:38 /user.slice /mnt/part rw,relatime - cgroup2 cgroup2 rw
43 31 0:38 / /mnt/with\040blank rw,relatime - cgroup2 cgroup2 rw
44 31 0:38 / /mnt/later ro,nosuid - cgroup2 none rw,nsdelegate
45 31 0:38 / cut
odd
`)
	if want := []string{"/mnt/later", "/sys/fs/cgroup/unified"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUnifiedTree has the hierarchy, whether it is mounted somewhere or not, that can be
// changed or not, in a mount that keeps no other one.
func TestUnifiedTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	own, err := ownUnified()
	if err != nil {
		t.Skip(err)
	}
	for name, open := range map[string]func(readOnly bool) (*os.File, error){"any": unifiedTree, "new": newUnified} {
		for _, readOnly := range []bool{false, true} {
			tree, err := open(readOnly)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer tree.Close()
			group := relative(filepath.Join(own, OwnerTag()+".tree"))
			err = unix.Mkdirat(int(tree.Fd()), group, 0o755)
			if err == nil {
				err = unix.Unlinkat(int(tree.Fd()), group, unix.AT_REMOVEDIR)
			}
			if readOnly != errors.Is(err, unix.EROFS) || (err != nil && !readOnly) {
				t.Errorf("%s, read-only %v: a group can be made: %v", name, readOnly, err)
			}
		}
	}
}

// TestCoveredUnified takes no other file system for the hierarchy.
func TestCoveredUnified(t *testing.T) {
	if tree, err := copyUnified(t.TempDir(), false); err == nil {
		tree.Close()
		t.Error("any directory is the hierarchy")
	}
}
