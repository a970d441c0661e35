package difference

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/fsys/tree"
)

// compareFiles compares the files of two sides.
func compareFiles(ctx context.Context, a, b Side) (output.FileDiffs, error) {
	w := &walk{ctx: ctx}
	x, err := load(ctx, a)
	if err != nil {
		return w.found, err
	}
	y, err := load(ctx, b)
	if err != nil {
		return w.found, err
	}
	if err := w.pair("/"+a.Path, x, y); err != nil {
		return w.found, err
	}
	if a.Path != "" || b.Path != "" {
		return w.found, nil
	}
	w.found.Packages, err = comparePackages(x, y)
	return w.found, err
}

// load reads names and attributes, and finds what is to be compared.
func load(ctx context.Context, s Side) (*tree.Inode, error) {
	scratch, err := os.MkdirTemp("", "b9-diff-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	t, err := tree.FromReader(s.Files).Load(ctx, scratch)
	if err != nil {
		return nil, err
	}
	at := t.Root
	for name := range strings.SplitSeq(s.Path, "/") {
		if name == "" {
			continue
		}
		if at = child(at, name); at == nil {
			return nil, fmt.Errorf("%s: %w", s.Name, fs.ErrNotExist)
		}
	}
	return at, nil
}

func child(dir *tree.Inode, name string) *tree.Inode {
	i, ok := slices.BinarySearchFunc(dir.Entries, name, func(e tree.Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return nil
	}
	return dir.Entries[i].Inode
}

// walk goes through two trees at once.
type walk struct {
	ctx   context.Context
	found output.FileDiffs
}

// pair compares what both have at a path.
func (w *walk) pair(at string, a, b *tree.Inode) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	d := output.FileDiff{Path: at, Change: "changed", Changes: attributes(a, b)}
	if a.IsRegular() && b.IsRegular() {
		if err := w.data(a, b, &d); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if len(d.Changes) > 0 {
		w.found.Files = append(w.found.Files, d)
	}
	if !a.IsDir() || !b.IsDir() {
		return nil
	}
	x, y := a.Entries, b.Entries
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Name < y[0].Name:
			w.only("removed", path.Join(at, x[0].Name), x[0].Inode)
			x = x[1:]
		case len(x) == 0 || y[0].Name < x[0].Name:
			w.only("added", path.Join(at, y[0].Name), y[0].Inode)
			y = y[1:]
		default:
			if err := w.pair(path.Join(at, x[0].Name), x[0].Inode, y[0].Inode); err != nil {
				return err
			}
			x, y = x[1:], y[1:]
		}
	}
	return nil
}

// only notes what one side has. Of a directory it is told how much is in it.
func (w *walk) only(change, at string, n *tree.Inode) {
	d := output.FileDiff{Path: at, Change: change, Type: typeOf(n), Size: n.Size}
	if n.IsDir() {
		d.Size = 0
		d.Below = below(n)
	}
	w.found.Files = append(w.found.Files, d)
}

func below(n *tree.Inode) (files int) {
	for _, e := range n.Entries {
		files += 1 + below(e.Inode)
	}
	return files
}

// attributes compares all but names and bytes.
func attributes(a, b *tree.Inode) []output.Differs {
	if a.Kind() != b.Kind() {
		return []output.Differs{{What: "type", A: typeOf(a), B: typeOf(b)}}
	}
	var list []output.Differs
	for _, c := range []struct{ what, a, b string }{
		{"mode", fmt.Sprintf("%04o", a.Mode&0o7777), fmt.Sprintf("%04o", b.Mode&0o7777)},
		{"owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID)},
		{"time", timeOf(a), timeOf(b)},
		{"target", a.Target, b.Target},
		{"device", fmt.Sprintf("%d,%d", a.Major, a.Minor), fmt.Sprintf("%d,%d", b.Major, b.Minor)},
		{"flags", fmt.Sprintf("%#x", a.Flags), fmt.Sprintf("%#x", b.Flags)},
	} {
		list = changes(list, c.what, c.a, c.b)
	}
	if !a.IsDir() {
		list = changes(list, "names", fmt.Sprint(a.Links), fmt.Sprint(b.Links))
	}
	values := map[string][2]string{}
	for i, n := range []*tree.Inode{a, b} {
		for _, x := range n.Xattrs {
			both := values[x.Name]
			both[i] = valueOf(x.Value)
			values[x.Name] = both
		}
	}
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = changes(list, "attribute "+name, values[name][0], values[name][1])
	}
	return list
}

func timeOf(n *tree.Inode) string {
	return time.Unix(n.Sec, int64(n.Nsec)).UTC().Format(time.RFC3339Nano)
}

// valueOf is the value of an attribute: in quotes where it can be read, else hexadecimal.
func valueOf(v []byte) string {
	if s := strings.TrimSuffix(string(v), "\x00"); isText([]byte(s)) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("0x%x", v)
}

func typeOf(n *tree.Inode) string {
	switch m := tree.FileMode(n.Mode); {
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "link"
	case m&fs.ModeCharDevice != 0:
		return "char"
	case m&fs.ModeDevice != 0:
		return "block"
	case m&fs.ModeNamedPipe != 0:
		return "fifo"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "file"
}

// data compares the bytes of two files, and their lines where they are text.
func (w *walk) data(a, b *tree.Inode, d *output.FileDiff) error {
	at, err := firstDifference(w.ctx, a, b)
	if err != nil || at < 0 {
		return err
	}
	d.Changes = append(d.Changes, output.Differs{What: "content", A: fmt.Sprintf("%d bytes", a.Size), B: fmt.Sprintf("%d bytes", b.Size)})
	d.Offset = &at
	if a.Size > longestText || b.Size > longestText {
		return nil
	}
	x, err := bytesOf(a)
	if err != nil {
		return err
	}
	y, err := bytesOf(b)
	if err == nil {
		d.Lines = lines(x, y)
	}
	return err
}

func bytesOf(n *tree.Inode) ([]byte, error) {
	if n.Size == 0 {
		return nil, nil
	}
	in, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, n.Size))
}

// firstDifference is where the bytes of two files differ first; -1 where they are the same.
func firstDifference(ctx context.Context, a, b *tree.Inode) (int64, error) {
	if a.Size == 0 || b.Size == 0 {
		if a.Size == b.Size {
			return -1, nil
		}
		return 0, nil
	}
	x, err := a.Open()
	if err != nil {
		return 0, err
	}
	defer x.Close()
	y, err := b.Open()
	if err != nil {
		return 0, err
	}
	defer y.Close()
	r, s := bufio.NewReaderSize(x, 1<<20), bufio.NewReaderSize(y, 1<<20)
	for off := int64(0); ; {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		p, perr := r.Peek(64 << 10)
		q, qerr := s.Peek(64 << 10)
		n := min(len(p), len(q))
		if !bytes.Equal(p[:n], q[:n]) {
			i := 0
			for p[i] == q[i] {
				i++
			}
			return off + int64(i), nil
		}
		for _, err := range []error{perr, qerr} {
			if err != nil && err != io.EOF {
				return 0, err
			}
		}
		if n == 0 {
			if len(p) == len(q) {
				return -1, nil
			}
			return off, nil
		}
		off += int64(n)
		_, _ = r.Discard(n) // both have it
		_, _ = s.Discard(n)
	}
}
