package volume

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// numbered is a volume of a root and directories d0, d1, ... with nothing in them.
type numbered struct{ n int }

func (numbered) Fold(name string) string { return name }

func (numbered) Data(*Node) (io.ReaderAt, error) { return nil, errors.ErrUnsupported }

func (numbered) ReadLink(*Node) (string, error) { return "", errors.ErrUnsupported }

func (numbered) Xattrs(*Node) ([]tree.Xattr, error) { return nil, nil }

func (numbered) Root() (*Node, error) { return numbered{}.Load(&Entry{}) }

func (numbered) Load(e *Entry) (*Node, error) {
	return &Node{Mode: unix.S_IFDIR | 0o755, Attr: tree.Attr{Inode: e.Number}}, nil
}

func (v numbered) List(n *Node) (list []Entry, err error) {
	for i := 0; n.Inode == 0 && i < v.n; i++ {
		list = append(list, Entry{Name: fmt.Sprintf("d%d", i), Kind: unix.S_IFDIR, Number: uint64(i + 1)})
	}
	return list, nil
}

// Many small directories are no reason to remember more and more.
func TestReaderForgetsDirectories(t *testing.T) {
	r := New(numbered{3 * keptDirectories}, "numbered")
	for range 2 {
		for i := range 3 * keptDirectories {
			if _, err := r.ReadDir(fmt.Sprintf("d%d", i)); err != nil {
				t.Fatal(err)
			}
			if n := len(r.(*reader).dirs); n > keptDirectories {
				t.Fatalf("%d directories are remembered, want %d at most", n, keptDirectories)
			}
		}
	}
}

// TestAppend holds what a name in a directory may be.
func TestAppend(t *testing.T) {
	for name, want := range map[string]string{"a": "", ".": "", "..": "", "": "is no name", "a/b": "is no name", "a\x00": "is no name"} {
		list, err := Append(nil, Entry{Name: name})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
		if kept := len(list) == 1; kept != (name == "a") {
			t.Errorf("%q: kept is %v", name, kept)
		}
	}
	if _, err := Append(make([]Entry, MaxDirEntries), Entry{Name: "one more"}); err == nil {
		t.Error("a directory has no bound")
	}
}
