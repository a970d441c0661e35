package disk

import (
	"cmp"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"testing"
	"time"
)

// realData returns n bytes of the files under /usr, at most 1 MiB of each, in
// the order of the hashes of their names; from the first again where they end.
func realData(b *testing.B, n int64) []byte {
	b.Helper()
	var names []string
	err := filepath.WalkDir("/usr", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, path)
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		b.Fatalf("no files under /usr: %v", err)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Compare(nameHash(x), nameHash(y)) })
	data := make([]byte, 0, n)
	for i := 0; int64(len(data)) < n; i = (i + 1) % len(names) {
		f, err := os.Open(names[i])
		if err != nil {
			continue
		}
		part, err := io.ReadAll(io.LimitReader(f, min(1<<20, n-int64(len(data)))))
		f.Close()
		if err != nil {
			b.Fatal(err)
		}
		data = append(data, part...)
	}
	return data
}

func nameHash(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	return h.Sum64()
}

// ownCPU returns the processor time of this process in milliseconds.
func ownCPU(b *testing.B) float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return milliseconds(time.Duration(r.Utime.Nano() + r.Stime.Nano()))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}
