package debian

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
)

// needEmulator skips the test where b9 registers no emulator for ppc64el itself.
func needEmulator(t *testing.T) *container.Emulator {
	t.Helper()
	needRoot(t)
	e, err := container.FindEmulator(t.Context(), "ppc64le")
	if err != nil || e == nil || !e.Own {
		t.Skipf("needs the Debian package qemu-user-static, and a kernel with registrations for a user namespace: %v", err)
	}
	return e
}

// TestMachines: every architecture that a system can have is one that b9 knows how
// to run programs of.
func TestMachines(t *testing.T) {
	for _, p := range params() {
		if p.Name != "arch" {
			continue
		}
		for _, arch := range p.Enum {
			b := &bootstrap{Arch: arch}
			if _, err := (container.Spec{ID: "x", Argv: []string{"x"}, Arch: b.Machine(), Mounts: []container.Mount{{Source: "/x", Target: "/"}}}).Normalize(); err != nil {
				t.Errorf("%s: %v", arch, err)
			}
		}
	}
}

// TestContainedEmulated: programs of another machine run, and device nodes are made
// though the kernel refuses that.
func TestContainedEmulated(t *testing.T) {
	e := needEmulator(t)
	dir := t.TempDir()
	var log bytes.Buffer
	err := runContained(t.Context(), e, hostEnv(), &log, "sh", "-c", "cd "+dir+` && mknod null c 1 3 && echo x >null && chown 65534:4000000000 null && stat -c '%F %t:%T %u:%g' null
cat /proc/sys/fs/binfmt_misc/b9-ppc64le | head -n 2; echo "${B9_REGISTER-none}"; mount -t tmpfs none /mnt && echo mounted`)
	want := "character special file 1:3 65534:4000000000\nenabled\ninterpreter " + e.Path + "\nnone\nmounted\n"
	if err != nil || log.String() != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, &log, want)
	}
	if _, err := os.Stat("/proc/sys/fs/binfmt_misc/b9-ppc64le"); err == nil {
		t.Error("the emulator is registered on the host")
	}
}

// TestBootstrapEmulated installs a system of another architecture, one that has its
// loader in the same directory as this machine: it holds what one
// of this machine's holds.
func TestBootstrapEmulated(t *testing.T) {
	needEmulator(t)
	a := newSmallArchive(t)
	extra := smallPackage{Name: "nodes", Version: "1",
		PostInst: "mknod /dev/own c 1 7\nchmod 600 /dev/own\nsetcap cap_net_raw+ep /usr/bin/true"}
	listings := map[string]string{}
	for _, arch := range []string{"amd64", "ppc64el"} {
		extra.Arch = arch
		base := essentialOf(arch)
		base[0].Programs = append(base[0].Programs, "mknod", "setcap", "true", "chmod")
		a.publish("small-"+arch, arch, suiteLists{"main": append(base, extra)})
		b := a.from("small-"+arch, "nodes")
		b.Arch = arch
		r, img, log, err := buildOnce(t, testWorld(t).Store, b)
		if err != nil {
			t.Fatalf("%s: %v\n%s", arch, err, log)
		}
		if r.Executed != 1 {
			t.Errorf("%s: %d steps ran", arch, r.Executed)
		}
		if said := strings.Contains(log, "b9: programs of ppc64le are run by "); said != (arch == "ppc64el") {
			t.Errorf("%s: an emulator is said to run programs: %v", arch, said)
		}
		x, err := img.Expose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listings[arch] = debugfs(t, x.Path, "ls -p /dev") + debugfs(t, x.Path, "ea_list /usr/bin/true") + debugfs(t, x.Path, "ls -p /")
		if stat := debugfs(t, x.Path, "stat /dev/own"); !strings.Contains(stat, "Type: character special") || !strings.Contains(stat, "Mode:  0600") {
			t.Errorf("%s: a node that a package makes:\n%s", arch, stat)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
	if listings["amd64"] != listings["ppc64el"] || !strings.Contains(listings["ppc64el"], "security.capability") {
		t.Errorf("emulated\n%s\nand not\n%s", listings["ppc64el"], listings["amd64"])
	}
}

// TestEmulatorCounts: its version is in the key of a system of another architecture,
// and in no other.
func TestEmulatorCounts(t *testing.T) {
	e := needEmulator(t)
	a := newSmallArchive(t)
	for _, arch := range []string{"amd64", "ppc64el"} {
		a.publish("small-"+arch, arch, suiteLists{"main": essentialOf(arch)})
		b := a.from("small-" + arch)
		b.Arch = arch
		n, err := engine.NewNode(b, engine.NodeOptions{Label: "//:test", Outputs: lang.OneFile("raw")})
		if err != nil {
			t.Fatal(err)
		}
		st := testWorld(t).Store
		eng := engine.New(engine.Config{Store: st})
		if _, err := eng.Build(t.Context(), n.Ref("")); err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		last, err := st.Latest("//:test")
		if err != nil || last == nil {
			t.Fatalf("no record: %v", err)
		}
		var tools []string
		for _, p := range last.Parts {
			if strings.Contains(p.Name, "qemu-ppc64le") && strings.Contains(p.Value, "version") {
				tools = append(tools, p.Name)
			}
		}
		if counts := len(tools) == 1; counts != (arch == "ppc64el") {
			t.Errorf("%s: the key has %q of %s", arch, tools, e.Path)
		}
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	}
}
