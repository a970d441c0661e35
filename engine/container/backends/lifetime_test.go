package backends

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/fuse"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
)

// roleVariable makes a run of the test binary play a part in a test:
// "owner BACKEND IMAGE MARK [TYPE]" runs a container until it is killed, whose root
// is served in user space if it is of the type,
// "libraries" prints what the process has mapped.
const roleVariable = "B9_TEST_ROLE"

func playRole(role string) int {
	parts := strings.Fields(role)
	if parts[0] == "libraries" {
		data, err := os.ReadFile("/proc/self/maps")
		fmt.Print(string(data))
		if err != nil {
			return 1
		}
		return 0
	}
	b, err := Open(parts[1], container.Config{RunDir: testRunDir(), FileSystems: fuse.FileSystems{}, UserSpace: parts[4:]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r := script(b, parts[2], "echo ready; sleep 1000 & sleep "+parts[3])
	r.spec.Memory = 128 << 20
	r.io = container.IO{Stdout: os.Stdout, Stderr: os.Stderr}
	res, err := b.Run(context.Background(), r.spec, r.io)
	fmt.Fprintln(os.Stderr, res, err)
	return 1
}

// startOwner starts a process that runs a container and returns when the
// container's command runs.
func startOwner(t *testing.T, w *world, image string, mark ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=owner %s %s %s", roleVariable, w.backend.Name(), image, strings.Join(mark, " ")))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func testOwnerKilled(t *testing.T, w *world) {
	image := copyImage(t, w.root)
	mark := fmt.Sprintf("9%07d", os.Getpid())
	if w.backend.Name() == container.Libvirt {
		mark += "1"
	}
	owner := startOwner(t, w, image, mark)
	// Wait for the second process, which the shell starts after its line.
	eventually(t, "the command runs", func() bool { return len(processesWith(mark)) > 0 })
	if len(loopsOf(image)) != 1 {
		t.Errorf("loops of the image: %v", loopsOf(image))
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	eventually(t, "its processes end", func() bool { return len(processesWith(mark)) == 0 })
	eventually(t, "its loop device is detached", func() bool { return len(loopsOf(image)) == 0 })
	tag := fmt.Sprintf("b9.%d.", owner.Process.Pid)
	eventually(t, "its control groups are removed", func() bool { return len(cgroupsOf(tag)) == 0 })
	if w.backend.Name() == container.Libvirt {
		eventually(t, "its domain ends", func() bool { return !domainRuns(t, tag) })
	}
	if err := w.backend.Reap(context.Background()); err != nil {
		t.Error(err)
	}
	script(w.backend, image, "true").output(t)
}

func testHelperKilled(t *testing.T, w *world) {
	mark := fmt.Sprintf("8%07d", os.Getpid())
	if w.backend.Name() == container.Libvirt {
		mark += "1"
	}
	r, image := w.script(t, "echo ready; exec sleep "+mark)
	wait := r.begin(t, context.Background())
	eventually(t, "the command runs", func() bool { return len(processesWith(mark)) > 0 })
	parent := parentOf(t, processesWith(mark)[0])
	if err := unix.Kill(parent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	res, err := wait()
	if res.Reason != container.BackendLost || err == nil {
		t.Errorf("got %+v, %v", res, err)
	}
	eventually(t, "the loop device is detached", func() bool { return len(loopsOf(image)) == 0 })
	if len(processesWith(mark)) != 0 {
		t.Error("processes are left")
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 3000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("waited 30 s, but not: %s", what)
}

// processesWith are the processes that have a word as an argument.
func processesWith(word string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && strings.HasSuffix(string(data), "\x00"+word+"\x00") {
			var pid int
			if _, err := fmt.Sscanf(f, "/proc/%d/cmdline", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var parent int
		if _, err := fmt.Sscanf(line, "PPid: %d", &parent); err == nil {
			return parent
		}
	}
	t.Fatalf("process %d has no parent", pid)
	return 0
}

// loopsOf are the loop devices that have a file behind them.
func loopsOf(file string) []string {
	var loops []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(data)) == file {
			loops = append(loops, f)
		}
	}
	return loops
}

// cgroupsOf are the control groups of an owner.
func cgroupsOf(tag string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/" + tag + "*")
	more, _ := filepath.Glob("/sys/fs/cgroup/*/" + tag + "*")
	return append(all, more...)
}

// domainRuns asks virsh for a domain of an owner.
func domainRuns(t *testing.T, tag string) bool {
	t.Helper()
	for _, name := range strings.Fields(command(t, "virsh", "-c", "lxc:///", "list", "--name")) {
		out, err := exec.Command("virsh", "-c", "lxc:///", "dumpxml", name).Output()
		if err == nil && strings.Contains(string(out), tag) {
			return true
		}
	}
	return false
}

// checkNothingLeft asserts that no run of this process left anything.
func checkNothingLeft(t *testing.T, root string) {
	t.Helper()
	if loops := loopsOf(root); len(loops) != 0 {
		t.Errorf("loop devices left: %v", loops)
	}
	if groups := cgroupsOf(group.OwnerTag()); len(groups) != 0 {
		t.Errorf("control groups left: %v", groups)
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), testRunDir()) {
		t.Errorf("mounts left:\n%s", data)
	}
}
