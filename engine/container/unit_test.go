package container

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOpenUnknown(t *testing.T) {
	_, err := Open("embeded", Config{})
	want := `unknown container backend "embeded" (have embedded, libvirt-lxc): did you mean "embedded"?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, name := range Backends() {
		b, err := Open(name, Config{})
		if err != nil || b.Name() != name {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

func TestCapabilityNames(t *testing.T) {
	names, err := capabilities([]string{"sys_admin", "CAP_SYS_ADMIN", "cap_Bpf"})
	if err != nil || !slices.Contains(names, "CAP_SYS_ADMIN") || !slices.Contains(names, "CAP_BPF") ||
		!slices.Contains(names, "CAP_MKNOD") || len(names) != len(defaultCapabilities)+2 || !slices.IsSorted(names) {
		t.Errorf("got %v, %v", names, err)
	}
	_, err = capabilities([]string{"CAP_NET_ADMN"})
	if want := `unknown capability "CAP_NET_ADMN": did you mean "NET_ADMIN"?`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err = capabilities([]string{"everything"}); err == nil || strings.Contains(err.Error(), "mean") {
		t.Errorf("got %v, want no suggestion", err)
	}
}

// TestCapabilityTable compares the table with the one that capsh has.
func TestCapabilityTable(t *testing.T) {
	needTool(t, "capsh")
	for i, name := range capabilityNames {
		got := strings.TrimSpace(command(t, "capsh", fmt.Sprintf("--decode=%x", uint64(1)<<i)))
		if _, decoded, _ := strings.Cut(got, "="); decoded != "cap_"+strings.ToLower(name) && decoded != fmt.Sprint(i) {
			t.Errorf("capability %d is %s, capsh says %s", i, name, got)
		}
	}
}

func TestResultString(t *testing.T) {
	for want, r := range map[string]Result{
		"exit status 3":        {Code: 3},
		"ended by SIGSEGV":     {Reason: Signalled, Signal: "SIGSEGV"},
		"timed out after 1.5s": {Reason: TimedOut, Duration: 1500 * time.Millisecond},
		"out of memory":        {Reason: OutOfMemory},
		"cancelled":            {Reason: Cancelled},
		"container lost":       {Reason: BackendLost},
		"reason 99":            {Reason: 99},
	} {
		if r.String() != want {
			t.Errorf("got %q, want %q", r, want)
		}
	}
}

func TestMountOrder(t *testing.T) {
	s := Spec{ID: "x", Argv: []string{"x"}, Mounts: []Mount{
		{Target: "/a/b/c", Kind: Tmpfs}, {Target: "/z", Kind: Tmpfs}, {Source: "r", Target: "//"}, {Target: "/a/b/", Kind: Tmpfs},
	}}
	n, err := s.normalize()
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, m := range n.Mounts {
		order = append(order, m.Target)
	}
	if want := []string{"/", "/z", "/a/b", "/a/b/c"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
	if s.Mounts[0].Target != "/a/b/c" {
		t.Error("the caller's mounts changed")
	}
	if n.Hostname != "x" || n.Dir != "/" || n.Network != networkHost || n.Grace != DefaultGrace {
		t.Errorf("defaults: %+v", n)
	}
}

func TestWithHost(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "127.0.0.1\tlocalhost\n127.0.1.1\tme\n",
		"127.0.0.1 localhost me":    "127.0.0.1 localhost me\n",
		"::1 localhost # me\n":      "::1 localhost # me\n127.0.1.1\tme\n",
		"localhost me\n1.1.1.1 x\n": "localhost me\n1.1.1.1 x\n127.0.0.1\tlocalhost\n",
	} {
		if got := string(withHost([]byte(in), "me")); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
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
		ownerTag() + ".x":                     false,
		ownerTag():                            false,
		fmt.Sprintf("b9.%d.1.x", os.Getpid()): true, // the id was used again
		"b9.4194305.5.x":                      true, // above the largest process id
		"b9.1.x.x":                            false,
		"b9.-1.1.x":                           false,
		"other.4194305.5.x":                   false,
		"b9":                                  false,
		"":                                    false,
	} {
		if ownerDead(name) != dead {
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
	dead, alive := filepath.Join(root, "b9.4194305.5.x"), filepath.Join(root, ownerTag()+".reap")
	for _, dir := range []string{dead, alive} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
	}
	if err := reapCgroups(); err != nil {
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
	write(t, file, []byte("low 0\noom 9\noom_kill 3\noom_group_kill 7\n"), 0o600)
	c := openCounter(file)
	defer c.close()
	if c.kills() != 0 {
		t.Errorf("counts %d from before", c.kills())
	}
	write(t, file, []byte("oom_kill 5\n"), 0o600)
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
			needTool(t, mkfs[0])
			image := sparse(t, 320<<20)
			command(t, mkfs[0], append(mkfs[1:], image)...)
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, err := imageFS(f, Mount{}); got != fstype || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// sparse is an empty file of a size.
func sparse(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

func FuzzDetectFS(f *testing.F) {
	f.Add([]byte("XFSB"))
	f.Add(append(make([]byte, 0x438), 0x53, 0xef))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		switch got := detectFS(head); got {
		case "":
		case "xfs":
			if !bytes.HasPrefix(head, []byte("XFSB")) {
				t.Errorf("%q", got)
			}
		case "ext4", "btrfs":
			if len(head) < 0x43a {
				t.Errorf("%q in %d bytes", got, len(head))
			}
		default:
			t.Errorf("%q", got)
		}
	})
}

func FuzzParseStartTime(f *testing.F) {
	f.Add("12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0")
	f.Add(")")
	f.Fuzz(func(_ *testing.T, stat string) { _, _ = parseStartTime(stat) })
}

// TestFileSystems mounts what the kernel supports, and two copies of one
// image, which have the same identity, at a time.
func TestFileSystems(t *testing.T) {
	needTool(t, "busybox", "mke2fs", "e2fsck", "debugfs")
	b, _ := openBackend(t, embeddedName)
	root := rootImage(t)
	for _, mkfs := range [][]string{
		{"mke2fs", "-q", "-t", "ext2", "-F"},
		{"mkfs.xfs", "-q", "-f"},
		{"mkfs.btrfs", "-q", "-f"},
	} {
		t.Run(mkfs[0], func(t *testing.T) {
			needTool(t, mkfs[0])
			image := sparse(t, 320<<20)
			command(t, mkfs[0], append(mkfs[1:], image)...)
			r := script(b, root, "echo data >/data/file; cat /data/file")
			r.spec.Mounts[0].ReadOnly = true
			r.spec.Mounts = append(r.spec.Mounts, Mount{Source: image, Target: "/tmp"})
			r.spec.Argv[2] = "echo data >/tmp/file"
			r.output(t)
			again := script(b, root, "cat /tmp/file /home/file")
			again.spec.Mounts[0].ReadOnly = true
			again.spec.Mounts = append(again.spec.Mounts, Mount{Source: image, Target: "/tmp"}, Mount{Source: copyImage(t, image), Target: "/home", ReadOnly: true})
			if mkfs[0] == "mkfs.btrfs" {
				again.spec.Argv[2], again.spec.Mounts = "cat /tmp/file /tmp/file", again.spec.Mounts[:2]
			}
			if got := again.output(t); got != "data\ndata\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestStartIsCheap keeps the library of libvirt from being opened at the start
// of every program that uses the package.
func TestStartIsCheap(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"=libraries")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "libc.so") || strings.Contains(string(out), "libvirt") {
		t.Errorf("opened:\n%s", out)
	}
}

// TestSpecRefusals checks what is refused before anything is touched.
func TestSpecRefusals(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"no command":                    func(s *Spec) { s.Argv = nil },
		"contains a zero byte":          func(s *Spec) { s.Argv = []string{"a\x00b"} },
		"put a long script into a file": func(s *Spec) { s.Argv = []string{strings.Repeat("x", 1<<17)} },
		"want NAME=value":               func(s *Spec) { s.Env = []string{"NAME"} },
		"container id":                  func(s *Spec) { s.ID = "../x" },
		"host name":                     func(s *Spec) { s.Hostname = "a b" },
		"is not an absolute path":       func(s *Spec) { s.Dir = "tmp" },
		"memory limit of 5 bytes":       func(s *Spec) { s.Memory = 5 },
		"limit of -1 processors":        func(s *Spec) { s.CPUs = -1 },
		"timeout of -1s":                func(s *Spec) { s.Timeout = -time.Second },
		"grace of -1s":                  func(s *Spec) { s.Grace = -time.Second },
		`unknown architecture "i868"`:   func(s *Spec) { s.Arch = "i868" },
		`"sys_admn": did you mean`:      func(s *Spec) { s.Capabilities = []string{"sys_admn"} },
		"no mount at /":                 func(s *Spec) { s.Mounts[0].Target = "/x" },
		"the mount at / is empty":       func(s *Spec) { s.Mounts[0] = Mount{Target: "/", Kind: Tmpfs} },
		"two mounts at /a":              func(s *Spec) { s.add(Mount{Target: "/a", Kind: Tmpfs}, Mount{Target: "/a/", Kind: Tmpfs}) },
		"has a /proc of its own":        func(s *Spec) { s.add(Mount{Target: "/x/../proc/x", Kind: Tmpfs}) },
		`mount target "a"`:              func(s *Spec) { s.add(Mount{Target: "a", Kind: Tmpfs}) },
		"mount at /a: no source":        func(s *Spec) { s.add(Mount{Target: "/a"}) },
		"a tmpfs has no source":         func(s *Spec) { s.add(Mount{Target: "/a", Source: "x", Kind: Tmpfs}) },
		"unknown kind 7":                func(s *Spec) { s.add(Mount{Target: "/a", Source: "x", Kind: 7}) },
		"are for images only":           func(s *Spec) { s.add(Mount{Target: "/a", Source: "x", Kind: Dir, Offset: 512}) },
		"must be multiples of 512":      func(s *Spec) { s.Mounts[0].Offset = 100 },
		"offset -512 and length 0 must": func(s *Spec) { s.Mounts[0].Offset = -512 },
	} {
		s := Spec{ID: "x", Argv: []string{"x"}, Mounts: []Mount{{Source: "r", Target: "/"}}}
		change(&s)
		if _, err := s.normalize(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that contains %q, got %v", want, err)
		}
	}
}

func (s *Spec) add(m ...Mount) { s.Mounts = append(s.Mounts, m...) }

func BenchmarkTrue(b *testing.B) {
	for _, name := range Backends() {
		b.Run(name, func(b *testing.B) {
			be, _ := openBackend(b, name)
			image := rootImage(b)
			for b.Loop() {
				r := script(be, image, "")
				r.spec.Argv = []string{"/bin/true"}
				if res, err := be.Run(context.Background(), r.spec, r.io); err != nil || res.Code != 0 {
					b.Fatal(res, err)
				}
			}
		})
	}
}
