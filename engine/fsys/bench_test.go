package fsys

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/compare"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/tool"
)

// tenThousand makes a tree of 10,000 files of up to 40 KB, 200 MB together.
func tenThousand(b *testing.B) string {
	dir := b.TempDir() + "/tree"
	rnd := rand.New(rand.NewSource(1))
	data := make([]byte, 40_000)
	rnd.Read(data)
	for d := range 100 {
		sub := fmt.Sprintf("%s/dir%02d/sub", dir, d)
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for i := range 100 {
			if err := os.WriteFile(fmt.Sprintf("%s/file-%d", sub, i), data[:rnd.Intn(len(data))], 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

// BenchmarkExt4Tree fills a 1 GiB ext4 file system with 10,000 files.
func BenchmarkExt4Tree(b *testing.B) {
	fsystest.Need(b, "mke2fs", "tar")
	dir := tenThousand(b)
	img := b.TempDir() + "/img"
	archive := b.TempDir() + "/tree.tar"
	fsystest.Run(b, "tar", "-C", dir, "-cf", archive, ".")
	mke2fs, _ := tool.Find("mke2fs")
	ways := map[string]func() error{
		"mke2fs": func() error {
			if err := os.WriteFile(img, nil, 0o644); err != nil {
				return err
			}
			return exec.Command(mke2fs, "-q", "-F", "-t", "ext4", "-d", dir, img, "1G").Run()
		},
		"dir": func() error { return ext4.Make(b.Context(), img, ext4.Options{Size: 1 << 30}, tree.FromDir(dir)) },
		"tar": func() error {
			return ext4.Make(b.Context(), img, ext4.Options{Size: 1 << 30}, tree.FromTarFile(archive))
		},
	}
	alternate(b, ways, img)
}

// BenchmarkISO makes a NoCloud seed.
func BenchmarkISO(b *testing.B) {
	fsystest.Need(b, "genisoimage")
	dir := b.TempDir()
	for _, f := range seedFiles() {
		fsystest.Write(b, dir+"/d/"+f.Path, string(f.Data))
	}
	img := dir + "/img"
	alternate(b, map[string]func() error{
		"genisoimage": func() error {
			return exec.Command("genisoimage", "-quiet", "-J", "-R", "-V", "cidata", "-o", img, dir+"/d").Run()
		},
		"b9": func() error {
			return iso9660.Make(b.Context(), img, iso9660.Options{VolumeID: "cidata", Joliet: true, RockRidge: true}, tree.FromFiles(seedFiles(), time.Time{}))
		},
	}, img)
}

// alternate runs the ways in turn, so that a busy machine is fair to all, and
// reports each one's median in milliseconds.
func alternate(b *testing.B, ways map[string]func() error, img string) {
	took := make(map[string][]time.Duration)
	for b.Loop() {
		for name, way := range ways {
			os.Remove(img)
			start := time.Now()
			if err := way(); err != nil {
				b.Fatal(name, err)
			}
			took[name] = append(took[name], time.Since(start))
		}
	}
	for name, d := range took {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-ms")
	}
}

// BenchmarkCanonical compares what may follow a step with a plain fork of its
// image. The contents are files of a root file system's sizes; 8 GiB of them need 24
// GiB below TMPDIR.
func BenchmarkCanonical(b *testing.B) {
	fsystest.Need(b, "mke2fs", "e2fsck", "cp")
	for name, size := range map[string]int64{"16M": 16 << 20, "64M": 64 << 20, "256M": 256 << 20, "half": 512 << 20, "eight": 8 << 30} {
		b.Run(name, func(b *testing.B) {
			img := filledImage(b, size)
			out := img + ".out"
			alternate(b, map[string]func() error{
				"fork":      func() error { return exec.Command("cp", "--sparse=auto", img, out).Run() },
				"canonical": func() error { return Canonical(b.Context(), img, out, time.Unix(1, 0)) },
			}, out)
		})
	}
}

// BenchmarkRevert finds out that nobody wrote to an image: by its bytes, as Revert
// does, and by its files, as where bytes differ. A fork of the image is the measure.
func BenchmarkRevert(b *testing.B) {
	fsystest.NeedRoot(b)
	fsystest.Need(b, "mke2fs", "mount", "cp")
	for name, size := range map[string]int64{"half": 512 << 20, "four": 4 << 30} {
		b.Run(name, func(b *testing.B) {
			img := filledImage(b, size)
			visited := img + ".visited"
			fsystest.Run(b, "cp", "--sparse=auto", img, visited)
			visit(b, visited, func(string) {})
			ways := map[string]func() error{"fork": func() error { return exec.Command("cp", "--sparse=auto", img, img+".out").Run() }}
			for name, same := range map[string]func(*pair) (bool, error){
				"bytes": func(p *pair) (bool, error) { return p.same(b.Context()) },
				"files": func(p *pair) (bool, error) {
					p.differ, p.from = compare.Runs{{From: 0, To: p.a.Size()}}, p.a.Size()
					return p.sameFiles(b.Context(), "ext4")
				},
			} {
				if name == "files" && size > 1<<30 {
					continue // takes minutes
				}
				ways[name] = func() error {
					same, err := same(newPair(image(b, img), image(b, visited), nil))
					if err == nil && !same {
						err = errors.New("not the same")
					}
					return err
				}
			}
			alternate(b, ways, img+".out")
		})
	}
}

// filledImage makes an image with so many bytes in files of a root file system's sizes.
func filledImage(b *testing.B, size int64) string {
	rnd := rand.New(rand.NewSource(1))
	data := make([]byte, 1<<20)
	rnd.Read(data)
	var files []tree.File
	for have := int64(0); have < size; {
		n := 1 + rnd.Intn(1<<(9+rnd.Intn(12)))
		files = append(files, tree.File{Path: fmt.Sprintf("d%d/e%d/f%d", len(files)%40, len(files)%1000, len(files)), Data: data[:n]})
		have += int64(n)
	}
	img := b.TempDir() + "/img"
	if err := ext4.Make(b.Context(), img, ext4.Options{Free: size / 4}, tree.FromFiles(files, time.Time{})); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(files)), "files")
	return img
}
