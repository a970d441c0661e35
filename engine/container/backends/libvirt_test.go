//go:build cgo && libvirt_dlopen

package backends

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
)

func TestNoLibvirtd(t *testing.T) {
	b, err := Open(container.Libvirt, container.Config{RunDir: testRunDir(), LibvirtURI: "lxc:///?socket=/no/such/socket"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Probe(context.Background())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"lxc:///?socket=/no/such/socket", "apt-get install", "No such file or directory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func virsh(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, "virsh", append([]string{"-c", "lxc:///"}, args...)...)
}

// leftover starts a domain that looks as if an owner had made it.
func leftover(t *testing.T, name, tag string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	write(t, file, []byte(fmt.Sprintf(`<domain type='lxc'><name>%s</name><description>%s</description>
<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>exe</type><init>/bin/sleep</init><initarg>1000</initarg></os>
<devices><filesystem type='mount'><source dir='%s'/><target dir='/'/></filesystem>
<console type='pty'/></devices></domain>`, name, tag, busyboxTree(t))), 0o600)
	virsh(t, "create", file)
	t.Cleanup(func() { _ = exec.Command("virsh", "-c", "lxc:///", "destroy", name).Run() })
}

func TestReapDomains(t *testing.T) {
	needTool(t, "virsh", "busybox")
	b, _ := openBackend(t, container.Libvirt)
	leftover(t, "b9-test-dead", "b9.4194305.5.x")
	leftover(t, "b9-test-alive", group.OwnerTag()+".x")
	leftover(t, "other-test", "b9.4194305.5.x")
	if err := b.Reap(context.Background()); err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(virsh(t, "list", "--name"))
	got := strings.Join(names, " ")
	if strings.Contains(got, "b9-test-dead") || !strings.Contains(got, "b9-test-alive") || !strings.Contains(got, "other-test") {
		t.Errorf("left: %s", got)
	}
}

func TestLibvirtNetwork(t *testing.T) {
	needTool(t, "virsh", "busybox")
	b, _ := openBackend(t, container.Libvirt)
	file := filepath.Join(t.TempDir(), "network.xml")
	write(t, file, []byte(`<network><name>b9-test</name><bridge name='b9test0' stp='off' delay='0'/><dns enable='no'/>
<ip address='10.213.7.1' netmask='255.255.255.248'/></network>`), 0o600)
	if out, err := exec.Command("virsh", "-c", "lxc:///", "net-create", file).CombinedOutput(); err != nil {
		t.Skipf("no libvirt network can be made here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("virsh", "-c", "lxc:///", "net-destroy", "b9-test").Run() })
	f, err := b.Probe(context.Background())
	if err != nil || !strings.Contains(strings.Join(f.Networks, " "), "libvirt:b9-test") {
		t.Errorf("networks %v, %v", f.Networks, err)
	}
	for _, name := range []string{"b9-test", "libvirt:b9-test"} {
		r := script(b, rootImage(t), "ip -4 addr show dev eth0 | grep -o 'inet [^ ]*'; ip route | grep default; for i in 1 2 3 4 5; do ping -c 1 -W 1 10.213.7.1 >/dev/null && echo reached && break; done; true")
		r.spec.Network = name
		got := r.output(t)
		if !strings.HasPrefix(got, "inet 10.213.7.") || !strings.Contains(got, "default via 10.213.7.1") || !strings.HasSuffix(got, "reached\n") {
			t.Errorf("network %s: %q", name, got)
		}
	}
	wrong := script(b, rootImage(t), "true")
	wrong.spec.Network = "b9-tset"
	wrong.refused(t, `did you mean "b9-test"?`)
}

// TestLibvirtdEnds takes the daemon away during a run. Killed, it leaves the
// container alone; stopped in order, it ends it.
//
// A daemon that others use can't be taken away, so the test runs again in
// namespaces of its own, where none answers and one is started.
func TestLibvirtdEnds(t *testing.T) {
	needTool(t, "virsh", "busybox")
	if !alone(t, "true") {
		return
	}
	b, _ := openBackend(t, container.Libvirt)
	dir := filepath.Join(libvirtd.dir, "d")
	image := rootImage(t)
	t.Run("killed", func(t *testing.T) {
		wait := script(b, image, "echo ready; sleep 1; echo written >/file").begin(t, context.Background())
		command(t, "kill", "-9", strings.TrimSpace(command(t, "cat", filepath.Join(dir, "libvirtd.pid"))))
		res, err := wait()
		if err != nil || res.Reason != container.Exited || res.Code != 0 {
			t.Errorf("got %+v, %v", res, err)
		}
		checkImageClean(t, image)
		if got := catImage(t, image, "/file"); got != "written\n" {
			t.Errorf("the image has %q", got)
		}
	})
	restart := func() {
		command(t, libvirtdScript, "stop", dir)
		command(t, libvirtdScript, "start", dir)
	}
	restart()
	t.Run("stopped", func(t *testing.T) {
		wait := script(b, image, "echo ready; sleep 100").begin(t, context.Background())
		restart()
		res, err := wait()
		if res.Reason != container.BackendLost || err == nil || !strings.Contains(err.Error(), "libvirtd has ended") {
			t.Errorf("got %+v, %v", res, err)
		}
	})
	script(b, image, "true").output(t)
	if err := b.Reap(context.Background()); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/machine/lxc-*-b9-*")
	for _, dir := range left {
		// The first process of another test's container may run.
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil && len(procs) == 0 {
			t.Errorf("left: %s", dir)
		}
	}
}
