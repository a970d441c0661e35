package tool

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program makes an executable script of that name in a new directory below root.
func program(t *testing.T, root, dir, name, script string) string {
	t.Helper()
	path := filepath.Join(root, dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	in := func(dir string) string { return filepath.Join(root, dir) }
	first, second := program(t, root, "bin", "both", ""), program(t, root, "sbin1", "both", "")
	admin, hidden := program(t, root, "sbin1", "admin", ""), program(t, root, "sbin2", "admin", "")
	plain := program(t, root, "sbin2", "plain", "")
	if err := os.WriteFile(in("bin/plain"), nil, 0o644); err != nil { // is not executable
		t.Fatal(err)
	}
	if err := os.Mkdir(in("sbin1/plain"), 0o755); err != nil { // is a directory
		t.Fatal(err)
	}
	t.Setenv("PATH", in("bin"))
	for name, want := range map[string]string{"both": first, "admin": admin, "plain": plain, second: second, hidden: hidden} {
		if got, err := find(name, []string{in("sbin1"), in("sbin2")}); err != nil || got != want {
			t.Errorf("%s: found %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"absent", in("absent"), "../sbin1/admin"} {
		if got, err := find(name, []string{in("sbin1"), in("sbin2")}); err == nil {
			t.Errorf("%s: found %q", name, got)
		}
	}
	if _, err := find("absent", nil); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}

// A working directory that anybody may write to is not searched.
func TestFindRefusesRelativeDirectories(t *testing.T) {
	root := t.TempDir()
	program(t, root, "bin", "evil", "")
	t.Chdir(root)
	t.Setenv("PATH", "bin:.")
	if got, err := find("evil", nil); err == nil {
		t.Errorf("found %q", got)
	}
	if got, err := find("bin/evil", nil); err != nil || !filepath.IsAbs(got) {
		t.Errorf("bin/evil: %q, %v; want an absolute path", got, err)
	}
}

// Where PATH lacks sbin, what the system has there is found nevertheless.
func TestFindWithoutAdminDirsInPath(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, dir := range adminDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if info, err := os.Stat(filepath.Join(dir, e.Name())); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
				continue
			}
			if got, err := Find(e.Name()); err != nil || filepath.Base(got) != e.Name() {
				t.Errorf("%s of %s: %q, %v", e.Name(), dir, got, err)
			}
			return
		}
	}
	t.Fatalf("no program in %v", adminDirs())
}

func TestVersion(t *testing.T) {
	root := t.TempDir()
	path := program(t, root, "bin", "loud", `echo "$1 out"; echo err >&2; exit 1`)
	p := Program{"loud", []string{"-V"}}
	if got, err := p.Version(t.Context(), path); err != nil || got != "-V out\nerr" {
		t.Errorf("got %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Version(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := p.Version(t.Context(), filepath.Join(root, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestFindIn(t *testing.T) {
	root := t.TempDir()
	second := program(t, root, "b", "tool", "")
	third := program(t, root, "c", "tool", "")
	t.Setenv("PATH", filepath.Dir(third))
	list := filepath.Join(root, "a") + ":" + filepath.Dir(second) + ":" + filepath.Dir(third)
	if got := FindIn(list, "tool"); got != second {
		t.Errorf("found %q, want %q", got, second)
	}
	absent := filepath.Join(root, "c", "absent")
	if got := FindIn(list, "absent"); got != absent {
		t.Errorf("found %q, want %q", got, absent)
	}
	if base := (Program{Name: absent}).Base(); base != "absent" {
		t.Errorf("base %q", base)
	}
}

func TestPackage(t *testing.T) {
	for program, want := range map[string]string{
		"resize2fs": "e2fsprogs", "fsck.vfat": "dosfstools", "xfs_repair": "xfsprogs", "btrfs": "btrfs-progs", "apt-get": "apt", "apt-helper": "apt",
		"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "gpgv": "gpgv",
	} {
		if got := Package(program); got != want {
			t.Errorf("%s is in %q, want %q", program, got, want)
		}
	}
}

// TestVersionOfWhatStays calls programs that leave a child with their output behind, and
// one that does not end before it is cancelled.
func TestVersionOfWhatStays(t *testing.T) {
	root := t.TempDir()
	path := program(t, root, "bin", "leaves", "echo 1.2; sleep 1000 & echo $! >"+root+"/child")
	t.Cleanup(func() { exec.Command("sh", "-c", "kill $(cat "+root+"/child*)").Run() })
	if got, err := (Program{Name: "leaves"}).Version(t.Context(), path); got != "1.2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	path = program(t, root, "bin", "hangs", "sleep 1000 & echo $! >"+root+"/child2; wait")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if data, err := os.ReadFile(root + "/child2"); err == nil && len(data) > 1 {
				cancel()
				return
			}
		}
	}()
	if got, err := (Program{Name: "hangs"}).Version(ctx, path); got != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("%q, %v", got, err)
	}
}
