package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"b9.build/b9/engine/internal/digest"
)

// bigFile has data of the given size in runs of 4 MiB, spread over size.
func bigFile(b *testing.B, path string, size, data int64) string {
	b.Helper()
	f := must[*os.File](b)(os.Create(path))
	defer f.Close()
	check(b, f.Truncate(size))
	const run = 4 << 20
	buf := make([]byte, run)
	n := data / run
	for i := range n {
		for j := range buf {
			buf[j] = byte(j*7+j>>9) ^ byte(i)
		}
		_, err := f.WriteAt(buf, i*(size/n))
		check(b, err)
	}
	return path
}

func BenchmarkHashFile(b *testing.B) {
	path := bigFile(b, filepath.Join(b.TempDir(), "f"), 4<<30, 400<<20)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			b.SetBytes(400 << 20)
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := digest.Path(b.Context(), path, workers)
				check(b, err)
			}
		})
	}
}

func BenchmarkFork(b *testing.B) {
	path := bigFile(b, filepath.Join(b.TempDir(), "f"), 4<<30, 400<<20)
	for _, c := range []struct {
		name string
		copy func(dst string) error
	}{
		{"cp", func(dst string) error {
			run(b, "cp", "--sparse=auto", path, dst)
			return nil
		}},
		{"1", func(dst string) error { return copyFile(b.Context(), path, dst, copying{mode: 0o600, workers: 1}) }},
		{"2", func(dst string) error { return copyFile(b.Context(), path, dst, copying{mode: 0o600, workers: 2}) }},
		{"4", func(dst string) error { return copyFile(b.Context(), path, dst, copying{mode: 0o600, workers: 4}) }},
		{"buffer", func(dst string) error { return bufferCopy(b.Context(), path, dst) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(400 << 20)
			for b.Loop() {
				check(b, c.copy(path+".fork"))
				b.StopTimer()
				check(b, os.Remove(path+".fork"))
				b.StartTimer()
			}
		})
	}
}

// bufferCopy is what Fork would be with reads and writes.
func bufferCopy(ctx context.Context, src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(4 << 30); err != nil {
		return err
	}
	return dataChunks(in, 4<<30, copyChunk, func(start, end int64) error { return copyThrough(out, in, start, end) })
}

// BenchmarkLookupOutputs is a build of 10,000 steps that are all done, from
// opening the store to closing it.
func BenchmarkLookupOutputs(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "store")
	s := must[*Store](b)(Open(dir, Options{NoSync: true}))
	var keys []Digest
	for i := range 10_000 {
		keys = append(keys, commit(b, s, fmt.Sprint(i), adopt(b, s, fmt.Sprint(i))))
	}
	s.LookupOutputs(key("make the index"))
	check(b, s.Close())
	for _, age := range []time.Duration{0, time.Hour} {
		b.Run(age.String(), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if age > 0 {
					makeOld(b, s, age)
				}
				b.StartTimer()
				s := must[*Store](b)(Open(dir, Options{}))
				for _, k := range keys {
					if _, ok := s.LookupOutputs(k); !ok {
						b.Fatal("not found")
					}
				}
				check(b, s.Close())
			}
		})
	}
}

// BenchmarkTreeDigest looks at 10,000 files that it has seen before.
func BenchmarkTreeDigest(b *testing.B) {
	dir, root := filepath.Join(b.TempDir(), "store"), b.TempDir()
	for i := range 10_000 {
		write(b, filepath.Join(root, fmt.Sprint(i%100), fmt.Sprint(i)), fmt.Sprint(i))
	}
	look := func() {
		s := must[*Store](b)(Open(dir, Options{NoSync: true, Grain: 1}))
		_, err := s.TreeDigest(b.Context(), root, nil)
		check(b, err)
		check(b, s.Close())
	}
	look()
	for b.Loop() {
		look()
	}
}

// BenchmarkAdoptCommit is what a small step costs in flushes.
func BenchmarkAdoptCommit(b *testing.B) {
	s := newStore(b)
	n := 0
	for b.Loop() {
		n++
		commit(b, s, fmt.Sprint(n), adopt(b, s, fmt.Sprint(n)))
	}
}

// BenchmarkFileDigest asks for 10,000 source files, none of them changed,
// from opening the store to closing it.
func BenchmarkFileDigest(b *testing.B) {
	dir, root := filepath.Join(b.TempDir(), "store"), b.TempDir()
	var paths []string
	for i := range 10_000 {
		paths = append(paths, write(b, filepath.Join(root, "packages", fmt.Sprint("p", i%500), fmt.Sprint("f", i)), fmt.Sprint(i)))
	}
	look := func() {
		s := must[*Store](b)(Open(dir, Options{NoSync: true, Grain: 1}))
		for _, path := range paths {
			if _, _, err := s.FileDigest(b.Context(), path); err != nil {
				b.Fatal(err)
			}
		}
		check(b, s.Close())
	}
	look()
	b.ReportAllocs()
	for b.Loop() {
		look()
	}
}

// BenchmarkAutoCollect is what the end of a build costs when nothing is due.
func BenchmarkAutoCollect(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		r := must[CollectReport](b)(s.AutoCollect(b.Context(), Policy{MaxSize: 1}))
		if r != (CollectReport{}) {
			b.Fatalf("it collects: %+v", r)
		}
	}
}
