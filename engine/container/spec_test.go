package container

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

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
	if _, err := exec.LookPath("capsh"); err != nil {
		t.Skip("needs capsh (apt-get install libcap2-bin)")
	}
	for i, name := range capabilityNames {
		out, err := exec.Command("capsh", fmt.Sprintf("--decode=%x", uint64(1)<<i)).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(string(out))
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
	n, err := s.Normalize()
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
	if n.Hostname != "x" || n.Dir != "/" || n.Network != NetworkNAT || n.Grace != DefaultGrace {
		t.Errorf("defaults: %+v", n)
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
		if _, err := s.Normalize(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that contains %q, got %v", want, err)
		}
	}
}

func (s *Spec) add(m ...Mount) { s.Mounts = append(s.Mounts, m...) }

func TestNames(t *testing.T) {
	long := strings.Repeat("a", maxName)
	for _, c := range []struct {
		text, first string
		want        bool
	}{
		{"a", "", true}, {"Z9.x_y-z", "", true}, {"0", "", true}, {long, "", true}, {"_a", "_", true},
		{"", "", false}, {"", "_", false}, {"_a", "", false}, {"-a", "_", false}, {".a", "_", false}, {long + "a", "", false},
		{"a b", "", false}, {"a\n", "", false}, {"ä", "", false}, {"a/b", "_", false},
	} {
		if got := isName(c.text, c.first); got != c.want {
			t.Errorf("%q beginning with %q too: %v, want %v", c.text, c.first, got, c.want)
		}
	}
}
