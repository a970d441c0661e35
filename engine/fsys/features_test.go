package fsys

import (
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
)

// featured are ext file systems of many layouts, by options of mke2fs.
func featured() map[string]string {
	return map[string]string{
		"ext2":                     "-t ext2",
		"ext3":                     "-t ext3",
		"ext4":                     "-t ext4",
		"1 KiB blocks":             "-t ext4 -b 1024",
		"2 KiB blocks":             "-t ext4 -b 2048 -I 1024",
		"32 bit":                   "-t ext4 -O ^64bit",
		"32 bit, 1 KiB":            "-t ext4 -b 1024 -O ^64bit,^resize_inode",
		"no journal":               "-t ext4 -O ^has_journal",
		"small journal":            "-t ext4 -J size=4",
		"fast commits":             "-t ext4 -O fast_commit",
		"orphan file":              "-t ext4 -O orphan_file",
		"bigalloc":                 "-t ext4 -O bigalloc",
		"bigalloc, 32 KiB":         "-t ext4 -O bigalloc -C 32768",
		"no checksums":             "-t ext4 -O ^metadata_csum",
		"descriptors' checksums":   "-t ext4 -O ^metadata_csum,uninit_bg",
		"seed of checksums":        "-t ext4 -O metadata_csum_seed",
		"inline data":              "-t ext4 -O inline_data",
		"inline data, 1 KiB":       "-t ext4 -b 1024 -O inline_data,^64bit",
		"no extents":               "-t ext4 -O ^extent,^64bit",
		"no flex_bg":               "-t ext4 -O ^flex_bg",
		"wide flex_bg":             "-t ext4 -G 64 -g 4096",
		"meta_bg":                  "-t ext4 -O meta_bg,^resize_inode",
		"sparse_super2":            "-t ext4 -O sparse_super2,^resize_inode -g 2048",
		"every superblock":         "-t ext4 -O ^sparse_super,^resize_inode -g 4096",
		"small inodes":             "-t ext4 -I 128 -O ^extra_isize,^project,^quota",
		"no dir_index":             "-t ext4 -O ^dir_index",
		"large directories":        "-t ext4 -O large_dir",
		"values in inodes":         "-t ext4 -O ea_inode",
		"quotas":                   "-t ext4 -O quota,project",
		"encryption":               "-t ext4 -O encrypt",
		"names without case":       "-t ext4 -O casefold",
		"verity":                   "-t ext4 -O verity",
		"multiple mount protected": "-t ext4 -O mmp",
		"stable inodes":            "-t ext4 -O stable_inodes",
	}
}

// TestFeatures settles, trims and lays out anew a used file system of every layout:
// e2fsck finds nothing to repair each time, and the content stays. What can't be done
// is refused, and changes nothing.
func TestFeatures(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "e2fsck", "mount", "cp")
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	for name, args := range featured() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			img := dir + "/img"
			fsystest.Run(t, "truncate", "-s", "48M", img)
			fsystest.Run(t, "mke2fs", append(strings.Fields("-q -F "+args), img)...)
			if !use(t, rand.New(rand.NewSource(seed)), img) {
				t.Log("this kernel doesn't mount it: it stays empty")
			}
			want := stripTimes(listReader(t, opened(t, img, 0)))
			at := time.Unix(1_700_000_000, 0)
			for step, do := range map[string]func(path string) error{
				"settle": func(path string) error {
					return Settle(t.Context(), path, nil, time.Unix(1_500_000_000, 0), at)
				},
				"trim": func(path string) error { _, err := Trim(t.Context(), path); return err },
				"both": func(path string) error {
					if err := Settle(t.Context(), path, nil, time.Unix(1_500_000_000, 0), at); err != nil {
						return err
					}
					_, err := Trim(t.Context(), path)
					return err
				},
				"canonical": func(path string) error {
					if err := Canonical(t.Context(), path, path+".new", at); err != nil {
						return err
					}
					return os.Rename(path+".new", path)
				},
			} {
				path := dir + "/" + step
				fsystest.Run(t, "cp", "--sparse=always", img, path)
				before := sum(t, path)
				if err := do(path); err != nil {
					refused := strings.Contains(err.Error(), "cannot be trimmed") || strings.Contains(err.Error(), "can't be laid out anew")
					if !refused || step != "both" && sum(t, path) != before {
						t.Errorf("%s: %v", step, err)
					}
					t.Logf("%s: %v", step, err)
				}
				whole(t, path)
				if got := stripTimes(listReader(t, opened(t, path, 0))); got != want {
					t.Errorf("%s changed the content: %s", step, firstDifference(want, got))
				}
			}
		})
	}
}

// use fills a file system, deletes some of that and fills again, and reports whether
// it could be mounted.
func use(t testing.TB, rnd *rand.Rand, img string) bool {
	t.Helper()
	src, mnt := t.TempDir(), t.TempDir()
	buildTree(t, src, rnd.Int63())
	os.Remove(src + "/linklong") // longer than a block of 1 KiB
	os.Truncate(src+"/big", 1<<20)
	os.RemoveAll(src + "/many") // takes time, and much of large clusters
	if exec.Command("mount", "-o", "loop,noatime", img, mnt).Run() != nil {
		return false
	}
	defer unmountLoop(t, img, mnt)
	for i := range 60 {
		fsystest.Write(t, mnt+"/gone/"+strings.Repeat("n", 1+i), strings.Repeat("d", rnd.Intn(30_000)))
	}
	fsystest.Run(t, "cp", "-a", src+"/.", mnt)
	for i := range 60 {
		if rnd.Intn(3) > 0 {
			os.Remove(mnt + "/gone/" + strings.Repeat("n", 1+i))
		}
	}
	fsystest.Run(t, "sync", "-f", mnt)
	fsystest.Write(t, mnt+"/last", strings.Repeat("l", rnd.Intn(4<<20)))
	return true
}
