package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// TestWhatCannotGrowStays: disk() puts an xfs or a btrfs with which b9 can't do it into a
// larger partition as it is, and says so, as the growing of a disk does. Who asks for the
// file system itself gets the error.
func TestWhatCannotGrowStays(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "x.raw": "", "B9BUILD.star": `
disk(name = "filled", partitions = [part("x.raw", fill = True)], size = "340M")
disk(name = "larger", partitions = [part("b.raw", size = "130M")])
`})
	mkfs, err := tool.Find("mkfs.xfs")
	if err != nil {
		t.Skip(err)
	}
	if err := os.Truncate(root+"/x.raw", 310<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-m", "rmapbt=1", root+"/x.raw").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := btrfs.Make(t.Context(), root+"/b.raw", btrfs.Options{Size: 120 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	patch(t, root+"/b.raw", 64<<10+0x60) // the place of a log
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for name, want := range map[string]string{
		"filled": "partition 1: its xfs stays as large as it is: resize: it can't be made larger as it is: it has features",
		"larger": "partition 1: its btrfs stays as large as it is: resize: it can't be made larger as it is: its log waits",
	} {
		t.Run(name, func(t *testing.T) {
			path, log := builtDisk(t, st, root, name)
			if !strings.Contains(log, want) {
				t.Errorf("the log has no %q:\n%s", want, log)
			}
			was := map[string]string{"filled": root + "/x.raw", "larger": root + "/b.raw"}[name]
			samePartition(t, path, was)
			grown, told := t.TempDir()+"/disk", ""
			if out, err := exec.Command("cp", "--sparse=always", path, grown).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			err := Sizing{Size: 400 << 20, Grow: true, Scratch: t.TempDir()}.Apply(t.Context(), grown, func(f string, a ...any) { told += fmt.Sprintf(f, a...) })
			if err != nil || !strings.Contains(told, "which stays as large as it is: resize: it can't be made larger") {
				t.Errorf("%v, told %q", err, told)
			}
			samePartition(t, grown, was)
			err = Sizing{Size: 400 << 20}.Apply(t.Context(), was, t.Logf)
			if !errors.Is(err, fsys.ErrCantGrow) || !strings.Contains(err.Error(), "mount it") {
				t.Errorf("by itself: %v", err)
			}
		})
	}
}

func patch(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{1}, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// builtDisk builds a target of the workspace, and returns a path to what it made and the
// steps' log.
func builtDisk(t *testing.T, st *store.Store, root, name string) (path, log string) {
	t.Helper()
	w, err := lang.Open(t.Context(), lang.Config{Root: root, Operations: []lang.Operation{Disk(), Part()}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{"//:" + name})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{Store: st, Events: func(ev engine.Event) {
		if ev.Type == engine.StepLog {
			log += ev.Line + "\n"
		}
	}})
	defer e.Close()
	ref := g.Targets[0].Refs[0]
	r, err := e.Build(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	x, err := r.Artifact(ref).Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x.Path, log
}

// samePartition holds the first partition of a disk, at 1 MiB, against a file.
func samePartition(t *testing.T, path, file string) {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cmp", "--ignore-initial", "1048576:0", "--bytes", fmt.Sprint(st.Size()), path, file).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
