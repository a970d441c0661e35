package helper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"b9.build/b9/engine/container"
)

func TestHostLines(t *testing.T) {
	for _, c := range []struct{ image, host, want string }{
		{"", "", "127.0.0.1\tlocalhost\n127.0.1.1\tme\n"},
		{"127.0.0.1 localhost me\n", "", ""},
		{"::1 localhost # me\n", "", "127.0.1.1\tme\n"},
		{"localhost me\n1.1.1.1 x\n", "", "127.0.0.1\tlocalhost\n"},
		{"127.0.0.1 localhost\n", "127.0.0.1 localhost\n10.0.0.9 mirror", "10.0.0.9 mirror\n127.0.1.1\tme\n"},
	} {
		want := c.want
		if want != "" {
			want = ownMark + want
		}
		if got := string(hostLines([]byte(c.image), []byte(c.host), "me")); got != want {
			t.Errorf("%q and %q: got %q, want %q", c.image, c.host, got, want)
		}
	}
}

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

func TestReapCgroups(t *testing.T) {
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
	if err := ReapCgroups(); err != nil {
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
	writeFile(t, file, []byte("low 0\noom 9\noom_kill 3\noom_group_kill 7\n"))
	c := openCounter(file)
	defer c.close()
	if c.kills() != 0 {
		t.Errorf("counts %d from before", c.kills())
	}
	writeFile(t, file, []byte("oom_kill 5\n"))
	if c.kills() != 2 {
		t.Errorf("counts %d, want 2", c.kills())
	}
	for _, none := range []oomCounter{openCounter(""), openCounter("/no/such")} {
		if none.kills() != 0 {
			t.Error("a file that is not there counts")
		}
	}
}

func TestParseCgroups(t *testing.T) {
	got := parseCgroups("4:memory:/a:b\n3:cpu,cpuacct:/\n0::/x\nodd\n")
	want := []cgroupLine{{"memory", "/a:b"}, {"cpu,cpuacct", "/"}, {"", "/x"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestDetectFS asks what the tools make.
func TestDetectFS(t *testing.T) {
	for fstype, mkfs := range map[string][]string{
		"ext4":  {"mke2fs", "-q", "-t", "ext4", "-F"},
		"xfs":   {"mkfs.xfs", "-q", "-f"},
		"btrfs": {"mkfs.btrfs", "-q", "-f"},
	} {
		t.Run(fstype, func(t *testing.T) {
			needProgram(t, mkfs[0])
			image := filepath.Join(t.TempDir(), "sparse.img")
			writeFile(t, image, nil)
			if err := os.Truncate(image, 320<<20); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, err := imageFS(f, container.Mount{}); got != fstype || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func FuzzParseStartTime(f *testing.F) {
	f.Add("12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0")
	f.Add(")")
	f.Fuzz(func(_ *testing.T, stat string) { _, _ = parseStartTime(stat) })
}

// needProgram skips a test whose program is not here.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
