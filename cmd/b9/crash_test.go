package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/exit"
)

// TestKilledAtAnyMoment interrupts and kills builds at random moments. After
// each, nothing of them is left on the machine, the next build comes out
// right, and the store is whole.
func TestKilledAtAnyMoment(t *testing.T) { killAtAnyMoment(t, 8, "root") }

// TestKilledWhileAForkIsWritten is the same with an image that is not copied: what the
// script writes goes through a process that shows it.
func TestKilledWhileAForkIsWritten(t *testing.T) {
	killAtAnyMoment(t, 6, `lxc_exec(images = {"/": root}, script = ["cat /dev/urandom | head -c 80000000 > /data", "cat /data > /dev/null"])["/"]`)
}

func killAtAnyMoment(t *testing.T, rounds int, image string) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv(longTests) != "" {
		rounds *= 5
	}
	w := newCrashSite(t, image)
	random := moments(t)
	for i := range rounds {
		w.write("script.sh", fmt.Sprintf("#!/bin/sh -e\nfor i in 1 2 3 4 5 6 7 8 9; do cat /bin/busybox > /copy$i; done; echo %d > /round; sleep 0.1\n", i))
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGINT}[i%2]
		after := time.Duration(random.Int64N(int64(w.took) * 3 / 2))
		code, out := w.interrupted(sig, after)
		// A signal may come before the program is ready for it, and end it as any other.
		if sig == syscall.SIGINT && code != 0 && code != exit.Interrupted && code != -1 {
			t.Fatalf("round %d, SIGINT after %v: exit status %d\n%s", i, after, code, out)
		}
		w.checkMachine(fmt.Sprintf("round %d, %v after %v", i, sig, after))
	}
	w.run("build", "//:all_of_it")
	w.checkLeftovers()
	if out := w.run("cache", "verify"); !strings.Contains(out, " 0 damaged") {
		t.Errorf("cache verify: %s", out)
	}
	image = filepath.Join(w.dir, "b9-out", "step.raw")
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	want := fmt.Sprint(rounds - 1)
	if out, err := exec.Command("debugfs", "-R", "cat /round", image).Output(); err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("the image holds round %q (%v), want %s", out, err, want)
	}
}

// crashSite is a workspace with a store of its own.
type crashSite struct {
	t          *testing.T
	dir, store string
	took       time.Duration // of a whole build
}

// newCrashSite makes one with a step on an image, which may be made of root.
func newCrashSite(t *testing.T, image string) *crashSite {
	w := &crashSite{t: t, dir: t.TempDir(), store: filepath.Join(t.TempDir(), "store")}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("no /bin/busybox (Debian package busybox-static): %v", err)
	}
	w.write("b9.toml", "")
	w.write("busybox", string(busybox))
	w.write("script.sh", "#!/bin/sh\nsleep 0.1\n")
	w.write("B9BUILD.star", `
root = image(content = tree(
    files = {"bin/busybox": "busybox"},
    links = {"bin/" + a: "busybox" for a in ["sh", "cat", "sleep", "head"]},
    dirs = ["proc", "sys", "dev", "tmp"],
    modes = {"bin/busybox": "0755"},
), size = "256M")
step = lxc_exec(name = "step", images = {"/": `+image+`}, script = "script.sh")
group(name = "all_of_it", targets = [step, convert(step, "qcow2", name = "qcow2"), convert(step, "vmdk", name = "vmdk")])
`)
	start := time.Now()
	w.run("build", "//:all_of_it")
	w.took = time.Since(start)
	return w
}

func (w *crashSite) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// command runs the test binary as b9, which TestMain sees to.
func (w *crashSite) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(os.Args[0])
	cmd.Args = append([]string{"b9", "-C", w.dir, "--store", w.store}, args...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func (w *crashSite) run(args ...string) string {
	w.t.Helper()
	cmd, out := w.command(args...)
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("b9 %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out.String()
}

// interrupted starts a build, sends it the signal after a while, and returns
// its exit status, -1 for one that was killed.
func (w *crashSite) interrupted(sig syscall.Signal, after time.Duration) (int, string) {
	w.t.Helper()
	cmd, out := w.command("build", "//:all_of_it")
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Signal(sig) })
	defer timer.Stop()
	cmd.Wait() // the error is the exit status
	return cmd.ProcessState.ExitCode(), out.String()
}

// checkMachine waits a moment for the kernel to tidy up after a kill, and then
// reports what is left: loop devices, mounts, processes.
func (w *crashSite) checkMachine(when string) {
	w.t.Helper()
	var left string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if left = w.left(); left == "" {
			return
		}
	}
	w.t.Fatalf("%s: left on the machine:\n%s", when, left)
}

func (w *crashSite) left() string {
	loops, err := exec.Command("losetup", "-l", "-n", "-O", "NAME,BACK-FILE").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	var left []string
	for _, line := range strings.Split(string(loops)+"\n"+string(mounts), "\n") {
		if strings.Contains(line, w.store) {
			left = append(left, line)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err == nil && bytes.Contains(line, []byte(w.store)) {
			left = append(left, p+": "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, f := range files {
		if path, err := os.Readlink(f); err == nil && strings.Contains(path, w.store) {
			left = append(left, f+": "+path)
		}
	}
	return strings.Join(left, "\n")
}

// checkLeftovers reports half-written files of dead builds.
func (w *crashSite) checkLeftovers() {
	w.t.Helper()
	for _, pattern := range []string{w.store + "/scratch/*", w.store + "/failed/*", w.dir + "/b9-out/.b9-*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			w.t.Errorf("left after the next build: %v %v", left, err)
		}
	}
}
