package sparse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// file makes a file of size bytes with 64 KiB of data at each of the offsets.
func file(t *testing.T, size int64, data ...int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for _, off := range data {
		if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 64<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// runs walks f from off on.
func runs(t *testing.T, f io.Seeker, off, size int64) (all [][2]int64) {
	t.Helper()
	for off < size {
		start, end, err := Run(f, off, size)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := Data(f, off, size); err != nil || first != start {
			t.Errorf("Data at %d is %d, %v; Run begins at %d", off, first, err, start)
		}
		if start < end {
			all = append(all, [2]int64{start, end})
		}
		off = max(end, start)
	}
	return all
}

func TestRun(t *testing.T) {
	const mib = 1 << 20
	f := file(t, 8*mib, mib, 3*mib)
	for _, c := range []struct {
		off, size int64
		want      [][2]int64
	}{
		{0, 8 * mib, [][2]int64{{mib, mib + 64<<10}, {3 * mib, 3*mib + 64<<10}}},
		{mib + 5, 8 * mib, [][2]int64{{mib + 5, mib + 64<<10}, {3 * mib, 3*mib + 64<<10}}},
		{0, 3*mib + 7, [][2]int64{{mib, mib + 64<<10}, {3 * mib, 3*mib + 7}}}, // cut to size
		{4 * mib, 8 * mib, nil},
		{0, mib, nil},
		{9 * mib, 10 * mib, nil}, // past the end
	} {
		if got := runs(t, f, c.off, c.size); !slices.Equal(got, c.want) {
			t.Errorf("from %d of %d: %v, want %v", c.off, c.size, got, c.want)
		}
	}
}

// seeker answers SEEK_DATA and SEEK_HOLE as it is told.
type seeker struct {
	data, hole       int64
	dataErr, holeErr error
}

func (s seeker) Seek(_ int64, whence int) (int64, error) {
	if whence == unix.SEEK_DATA {
		return s.data, s.dataErr
	}
	return s.hole, s.holeErr
}

func TestRunWhereTheKernelSaysOtherwise(t *testing.T) {
	denied := &os.PathError{Op: "seek", Path: "/x", Err: syscall.EACCES}
	for name, c := range map[string]struct {
		s          seeker
		start, end int64
		err        error
	}{
		"no such call":           {seeker{dataErr: &os.PathError{Err: syscall.EINVAL}}, 5, 100, nil},
		"no such file system":    {seeker{dataErr: syscall.EOPNOTSUPP, holeErr: syscall.EOPNOTSUPP}, 5, 100, nil},
		"only a hole":            {seeker{dataErr: syscall.ENXIO}, 100, 100, nil},
		"data past the size":     {seeker{data: 200}, 100, 100, nil},
		"truncated in between":   {seeker{data: 10, holeErr: syscall.ENXIO}, 0, 0, ErrChanged},
		"punched in between":     {seeker{data: 10, hole: 10}, 10, 11, nil},
		"data that can't be had": {seeker{dataErr: denied}, 0, 0, syscall.EACCES},
		"a hole that can't":      {seeker{data: 10, holeErr: denied}, 0, 0, syscall.EACCES},
	} {
		if c.s.dataErr != nil && c.s.holeErr == nil {
			c.s.holeErr = c.s.dataErr
		}
		start, end, err := Run(c.s, 5, 100)
		if start != c.start || end != c.end || !errors.Is(err, c.err) {
			t.Errorf("%s: %d to %d, %v; want %d to %d, %v", name, start, end, err, c.start, c.end, c.err)
		}
	}
}

func TestIsZero(t *testing.T) {
	for n := range 130 {
		p := make([]byte, n)
		if !IsZero(p) {
			t.Errorf("%d zeros are not zero", n)
		}
		for i := range p {
			if p[i] = 1; IsZero(p) {
				t.Errorf("%d bytes with a one at %d are zero", n, i)
			}
			p[i] = 0
		}
	}
}

func TestOpen(t *testing.T) {
	f := file(t, 5)
	if g, info, err := Open(f.Name()); err != nil || info.Size() != 5 {
		t.Errorf("%v, %v", info, err)
	} else {
		g.Close()
	}
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "is not a regular file but a directory", link: "is not a regular file but a directory",
		pipe: "is not a regular file but a pipe", "/dev/null": "is not a regular file but a device",
	} {
		if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestZero(t *testing.T) {
	f := file(t, 256<<10, 0, 64<<10, 128<<10, 192<<10)
	for name, zero := range map[string]func(off, n int64) error{
		"punched": func(off, n int64) error { return Zero(t.Context(), f, off, n) },
		"written": func(off, n int64) error { return writeZeros(t.Context(), f, off, n) },
		"nothing": func(off, _ int64) error { return Zero(t.Context(), f, off, 0) },
	} {
		want := bytes.Repeat([]byte{1}, 256<<10)
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if name != "nothing" {
			clear(want[5000:150_000])
		}
		if err := zero(5000, 145_000); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the bytes differ, %v", name, err)
		}
	}
	if err := Punch(f, 64<<10, 64<<10); err != nil {
		t.Fatal(err)
	}
	if start, _, err := Run(f, 64<<10, 256<<10); err != nil || start < 128<<10 {
		t.Errorf("after the hole, data begins at %d, %v", start, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := writeZeros(ctx, f, 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRuns finds data wherever it lies, in whole units but at the end.
func TestRuns(t *testing.T) {
	for _, c := range []struct{ b, want string }{
		{"", ""}, {"........", ""}, {"xxxxxxxx", "[0 8]"}, {"...x....", "[0 4]"}, {"....x...", "[4 8]"},
		{"xxxx....xx", "[0 4][8 10]"}, {"....xxxx...x..", "[4 12]"}, {".........", ""}, {"........x", "[8 9]"},
	} {
		b := bytes.ReplaceAll([]byte(c.b), []byte("."), []byte{0})
		got := ""
		for from, to := range Runs(b, 4) {
			got += fmt.Sprint([]int{from, to})
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.b, got, c.want)
		}
	}
}
