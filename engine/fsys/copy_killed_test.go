package fsys

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// deadly is a Reader that kills this process in the middle of the file called name.
type deadly struct {
	tree.Reader
	name string
}

func (d deadly) Open(name string) (fs.File, error) {
	f, err := d.Reader.Open(name)
	if err != nil || name != d.name {
		return f, err
	}
	return deadlyFile{f, f.(data)}, nil
}

type deadlyFile struct {
	fs.File
	data
}

func (d deadlyFile) ReadAt(b []byte, off int64) (int, error) {
	if off == 0 {
		return d.data.ReadAt(b, off)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
		return 0, err
	}
	select {} // until the signal has come
}

// killedCopy tells a process that is killed what to copy: image, name and destination.
const killedCopy = "B9_TEST_KILLED_COPY"

// TestKilledCopy kills copies out of an image while they write. A file, and what was there
// before it, is as if nothing had been; of a directory nothing has its name, and the copy
// after that leaves nothing of the one that was killed; one that was there keeps what it had.
func TestKilledCopy(t *testing.T) {
	if what := os.Getenv(killedCopy); what != "" {
		img, name, to := split3(what)
		dir, as := filepath.Split(to)
		root, err := os.OpenRoot(dir)
		if err == nil {
			err = Copy(t.Context(), deadly{opened(t, img, 0), "d/large"}, name, root, as, CopyOptions{})
		}
		t.Fatal(err)
	}
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	fsystest.Write(t, dir+"/src/d/first", "first")
	fsystest.Write(t, dir+"/src/d/large", strings.Repeat("large ", 1<<18))
	img := dir + "/img"
	if err := ext4.Make(t.Context(), img, ext4.Options{}, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, there, left string }{
		{"d/large", "", ""},
		{"d/large", "copy", "copy"},
		{"d", "", ""},
		{"d", "copy/other", "copy/ copy/other"},
	} {
		out := t.TempDir()
		if c.there != "" {
			fsystest.Write(t, filepath.Join(out, c.there), "before")
		}
		dieCopying(t, img, c.name, out+"/copy")
		if got := visible(t, out); got != c.left {
			t.Errorf("%+v: it left %q", c, got)
		}
		if c.there != "" {
			if got, err := os.ReadFile(filepath.Join(out, c.there)); err != nil || string(got) != "before" {
				t.Errorf("%+v: what was there is %.20q, %v", c, got, err)
			}
		}
		if err := copyOut(t, img, c.name, out, "copy", CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		all, err := filepath.Glob(out + "/" + tempPrefix + "*")
		if err != nil || len(all) != 0 {
			t.Errorf("%+v: the next copy left %q, %v", c, all, err)
		}
		large := strings.TrimSuffix(out+"/copy/"+strings.TrimPrefix("d/large", c.name+"/"), "/d/large")
		if got, err := os.ReadFile(large); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("large "), 1<<18)) {
			t.Errorf("%+v: the next copy has %d bytes, %v", c, len(got), err)
		}
	}
}

func split3(s string) (a, b, c string) {
	parts := strings.SplitN(s, "\n", 3)
	return parts[0], parts[1], parts[2]
}

// dieCopying copies in a process that is killed.
func dieCopying(t *testing.T, img, name, to string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledCopy$")
	cmd.Env = append(os.Environ(), killedCopy+"="+img+"\n"+name+"\n"+to)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%v: %s", err, out)
	}
}

// visible lists what is in a directory but for temporary names, sorted.
func visible(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == dir:
			return err
		case strings.HasPrefix(d.Name(), tempPrefix):
			return fs.SkipDir
		}
		name := strings.TrimPrefix(path, dir+"/")
		if d.IsDir() {
			name += "/"
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}
