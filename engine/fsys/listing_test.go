package fsys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"b9.build/b9/engine/fsys/tree"
)

// opened is a reader of the image behind off bytes of a file, for the time of the
// test.
func opened(t testing.TB, img string, off int64) tree.Reader {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(io.NewSectionReader(f, off, st.Size()-off), st.Size()-off)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func compareReader(t *testing.T, r tree.Reader, files []tree.File) {
	t.Helper()
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
		if f.Mode.IsDir() {
			continue
		}
		got, err := fs.ReadFile(r, f.Path)
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		} else if string(got) != string(f.Data) {
			t.Errorf("%s: %d bytes, want %d", f.Path, len(got), len(f.Data))
		}
	}
	if _, err := r.Stat("../x"); err == nil {
		t.Error("a path out of the image is no error")
	}
	if _, err := r.Stat("absent/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if err := fstest.TestFS(r, names...); err != nil {
		t.Error(err)
	}
}

// listReader tells everything about an image in the words of listTar.
func listReader(t testing.TB, r tree.Reader) string {
	t.Helper()
	var text strings.Builder
	first := map[uint64]string{}
	var visit func(p string)
	visit = func(p string) {
		info, err := r.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(describe(t, r, p, info, first))
		if !info.IsDir() {
			return
		}
		list, err := r.ReadDir(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Name() == "lost+found" {
				continue
			}
			child := e.Name()
			if p != "." {
				child = p + "/" + child
			}
			if got, err := e.Info(); err != nil || got.Mode().Type() != e.Type() {
				t.Errorf("%s: entry says %v, %v", child, e, err)
			}
			visit(child)
		}
	}
	visit(".")
	return text.String()
}

func describe(t testing.TB, r tree.Reader, p string, info fs.FileInfo, first map[uint64]string) string {
	st := info.Sys().(*tree.Attr)
	name, kind, link, size, sum := "./"+p, byte('0'), "", info.Size(), sha256.New()
	switch info.Mode().Type() {
	case fs.ModeDir:
		name, kind, size = "./"+p+"/", '5', 0
		if p == "." {
			name = "./"
		}
	case fs.ModeSymlink:
		target, err := r.ReadLink(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, link, size = '2', target, 0
	case fs.ModeDevice:
		kind = '4'
	case fs.ModeDevice | fs.ModeCharDevice:
		kind = '3'
	case fs.ModeNamedPipe:
		kind = '6'
	case fs.ModeSocket:
		return ""
	}
	if st.Links > 1 && !info.IsDir() {
		if old, ok := first[st.Inode]; ok {
			kind, link, size = '1', old, 0
		} else {
			first[st.Inode] = name
		}
	}
	if kind == '0' {
		f, err := r.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(sum, f); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		f.Close()
	}
	mode, _ := tree.UnixMode(info.Mode())
	line := fmt.Sprintf("%q %c %o %d:%d %d %d.%d %q %d:%d %x", name, kind, mode&0o7777, st.UID, st.GID, size, info.ModTime().Unix(),
		info.ModTime().Nanosecond(), link, st.Major, st.Minor, sum.Sum(nil)[:8])
	list, err := r.Xattrs(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(list)) {
		line += fmt.Sprintf(" %q", k+"="+list[k])
	}
	return line + "\n"
}

func compareMounted(t *testing.T, img string, r tree.Reader) tree.Reader {
	t.Helper()
	want := tarOf(t, mountImage(t, img))
	if got := listReader(t, r); sorted(got) != sorted(onlyXattrs(want)) {
		t.Error(firstDifference(sorted(onlyXattrs(want)), sorted(got)))
	}
	return r
}

// sorted orders the lines, and onlyXattrs writes attributes as describe does.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func onlyXattrs(s string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(s, "\n") {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " SCHILY.")
		out.WriteString(fields[0])
		for _, f := range fields[1:] {
			if rest, ok := strings.CutPrefix(f, "xattr."); ok {
				k, v, _ := strings.Cut(rest, "=")
				var value string
				fmt.Sscanf(v, "%q", &value)
				fmt.Fprintf(&out, " %q", k+"="+value)
			}
		}
		out.WriteString(line[len(strings.TrimSuffix(line, "\n")):])
	}
	return out.String()
}
