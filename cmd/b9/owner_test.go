package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// someone is a user who need not be in /etc/passwd.
const someone = 54321

// TestRootInSomebodysStore has root use the store, the workspace and the settings of an
// ordinary user, who then goes on: everything that root made there is the user's, but for
// what results are made of.
func TestRootInSomebodysStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can leave what locks others out")
	}
	h := newHome(t)
	h.write(t, "ws/b9.toml", "")
	h.write(t, "ws/B9BUILD.star", `a = image(name = "a", size = "1M", content = "src")
share("shared", image = a)
image(name = "broken", source = "broken.qcow2")
`)
	h.write(t, "ws/sub/B9BUILD.star", "convert(\"//:a\", \"qcow2\", name = \"q\")\n")
	h.write(t, "ws/broken.qcow2", "no image")
	h.write(t, "ws/src/f", "one")
	h.run(t, someone, "build", "//:a")
	h.write(t, "ws/src/f", "two")

	h.run(t, 0, "repo", "add", "--create", "other", h.dir+"/other")
	h.run(t, 0, "build", "//:a", "//sub:q", "//:shared")
	h.run(t, 0, "push", "shared")
	h.write(t, "ws/messy.star", "x=1\n")
	h.run(t, 0, "fmt", h.dir+"/ws/messy.star")
	if info, err := os.Stat(filepath.Join(h.dir, "ws/messy.star")); err != nil || info.Size() != 6 || info.Sys().(*syscall.Stat_t).Uid != someone {
		t.Errorf("laid out by root: %+v, %v", info, err)
	}
	h.run(t, 0, "cache", "gc", "--max-size", "1")
	if out, err := h.command(0, "build", "//:broken").CombinedOutput(); err == nil || !strings.Contains(string(out), "its files are kept") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, below := range []string{".cache", ".config", "ws/b9-out"} {
		err := filepath.WalkDir(filepath.Join(h.dir, below), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if st := info.Sys().(*syscall.Stat_t); (st.Uid != someone || st.Gid != someone) && !strings.Contains(path, "/failed/") {
				t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}

	h.run(t, someone, "log", "//:broken")
	h.write(t, "ws/src/f", "three")
	for _, args := range [][]string{
		{"build", "//:a", "//sub:q", "//:shared"}, {"list", "-r", "local"}, {"repo", "remove", "other"},
		{"cache", "verify"}, {"cache", "gc", "--all"}, {"clean"},
	} {
		h.run(t, someone, args...)
	}
}

// home is the home of a user, with b9 in it.
type home struct{ dir string }

// newHome makes one that everybody can reach, as those of tests are not.
func newHome(t *testing.T) home {
	dir, err := os.MkdirTemp("", "b9-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := home{dir}
	program, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "b9"), program, 0o755)
	}
	if err == nil {
		err = os.Chown(dir, someone, someone)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// write writes a file of the user's.
func (h home) write(t *testing.T, path, text string) {
	t.Helper()
	at := h.dir
	for _, dir := range strings.Split(filepath.Dir(path), "/") {
		at = filepath.Join(at, dir)
		_ = os.Mkdir(at, 0o755)
		_ = os.Chown(at, someone, someone)
	}
	at = filepath.Join(h.dir, path)
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(at, someone, someone); err != nil {
		t.Fatal(err)
	}
}

func (h home) command(uid uint32, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(h.dir, "b9"), args...)
	cmd.Dir = filepath.Join(h.dir, "ws")
	cmd.Env = []string{"HOME=" + h.dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

func (h home) run(t *testing.T, uid uint32, args ...string) string {
	t.Helper()
	out, err := h.command(uid, args...).CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("user %d: b9 %s: %w\n%s", uid, strings.Join(args, " "), err, out))
	}
	return string(out)
}
