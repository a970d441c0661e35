package fsys

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/tool"
)

// TestProbe holds Probe against blkid on file systems that their own tools made.
func TestProbe(t *testing.T) {
	fsystest.Need(t, "blkid")
	for name, tools := range map[string][]string{
		"ext2":     {"mke2fs -q -t ext2 -L small IMG"},
		"ext3":     {"mke2fs -q -t ext3 -L three IMG"},
		"ext4":     {"mke2fs -q -t ext4 -L four IMG"},
		"ext4-1k":  {"mke2fs -q -t ext4 -b 1024 IMG"},
		"big":      {"mke2fs -q -t ext4 -O bigalloc IMG"},
		"xfs":      {"mkfs.xfs -q -L ex IMG"},
		"btrfs":    {"mkfs.btrfs -q -L butter IMG"},
		"swap":     {"mkswap -q -L swap IMG"},
		"vfat":     {"mkfs.vfat -n DOS IMG"},
		"vfat32":   {"mkfs.vfat -F 32 IMG"},
		"iso":      {"genisoimage -quiet -J -R -V cidata -o IMG DIR"},
		"xorriso":  {"xorriso -as mkisofs -quiet -V MIXED_case -o IMG DIR"},
		"squashfs": {"mksquashfs DIR IMG -quiet -no-progress -noappend"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			img := dir + "/img"
			fsystest.Write(t, dir+"/d/file", "x")
			for _, line := range tools {
				line = strings.NewReplacer("IMG", img, "DIR", dir+"/d").Replace(line)
				args := strings.Fields(line)
				fsystest.Need(t, args[0])
				if !strings.Contains(line, dir+"/d") {
					fsystest.Write(t, img, "")
					os.Truncate(img, 320<<20) // the least of mkfs.xfs
				}
				fsystest.Run(t, args[0], args[1:]...)
			}
			info, err := Probe(img, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			compareBlkid(t, img, info)
			moved := shifted100(t, img)
			at, err := Probe(moved, 100<<20, 0)
			if err != nil || at != info {
				t.Errorf("behind an offset: %+v, %v", at, err)
			}
		})
	}
}

// shifted100 appends an image behind a hole of 100 MiB.
func shifted100(t *testing.T, img string) string {
	to := img + ".moved"
	fsystest.Write(t, to, "")
	os.Truncate(to, 100<<20)
	fsystest.Run(t, "dd", "if="+img, "of="+to, "bs=1M", "seek=100", "conv=notrunc,sparse", "status=none")
	st, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	os.Truncate(to, 100<<20+st.Size())
	return to
}

func TestProbeNothing(t *testing.T) {
	p := t.TempDir() + "/x"
	for _, data := range []string{"", "x", strings.Repeat("x", 70_000), strings.Repeat("\x00", 70_000)} {
		fsystest.Write(t, p, data)
		if info, err := Probe(p, 0, 0); err != nil || info.Type != "" {
			t.Errorf("%+v %v", info, err)
		}
	}
	if _, err := Probe(p, 0, 1<<40); err == nil {
		t.Error("a range beyond the end is no error")
	}
	if _, err := Probe(p, -1, 0); err == nil {
		t.Error("a negative offset is no error")
	}
}

func TestCheck(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck")
	img := t.TempDir() + "/x.img"
	if err := ext4.Make(t.Context(), img, ext4.Options{Size: 16 << 20}, manyFiles(50)); err != nil {
		t.Fatal(err)
	}
	damageInode12(t, img)
	fsystest.WantError(t, Check(t.Context(), img), "the ext4 file system has errors", "node 12")
	fsystest.Write(t, img, "nothing")
	fsystest.WantError(t, Check(t.Context(), img), "there is no checker for a file without a known file system")
}

// A checker that prints without end is stopped: e2fsck 1.47.0 is one when no
// descriptor of a group says where its inode table lies.
func TestCheckEndlessFindings(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck")
	img := t.TempDir() + "/x.img"
	fsystest.Write(t, img, "")
	fsystest.Run(t, "mke2fs", "-q", "-t", "ext2", "-b", "1024", "-O", "^resize_inode,^metadata_csum", img, "12M")
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, block := range []int64{2, 8194} { // the descriptors and their backup
		if _, err := f.WriteAt(make([]byte, 4), block*1024+32+8); err != nil {
			t.Fatal(err)
		}
	}
	fsystest.WantError(t, Check(t.Context(), img), "the ext2 file system has errors that e2fsck does not come to an end with", "printed more than 1048576 bytes")
}

// damageInode12 writes nonsense over the first ordinary inode of an ext4 with
// blocks of 4096 bytes, whose group descriptors begin in block 1.
func damageInode12(t testing.TB, img string) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var table [4]byte
	if _, err := f.ReadAt(table[:], 4096+8); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 300), int64(binary.LittleEndian.Uint32(table[:]))*4096+11*256); err != nil {
		t.Fatal(err)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(make([]byte, 4096))
	for _, magic := range []struct {
		at   int
		text string
	}{{0, "XFSB"}, {0, "hsqs"}, {64<<10 + 64, "_BHRfS_M"}, {4086, "SWAPSPACE2"}, {32769, "CD001"}, {510, "\x55\xaa"}, {1080, "\x53\xef"}} {
		b := make([]byte, 66<<10)
		copy(b[magic.at:], magic.text)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ProbeAt(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatalf("a damaged superblock is an error: %v", err)
		}
	})
}

// FuzzTrim lets Trim loose on damaged ext4 metadata: errors, no panics.
func FuzzTrim(f *testing.F) {
	f.Add(uint16(0), []byte{})
	f.Add(uint16(0x18), []byte{6})
	f.Add(uint16(1024+8), []byte{0xff, 0xff})
	fsystest.Need(f, "mke2fs")
	good := f.TempDir() + "/good.img"
	if err := ext4.Make(context.Background(), good, ext4.Options{Size: 1 << 20, Features: []string{"^has_journal"}}, nil); err != nil {
		f.Fatal(err)
	}
	base, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		img := t.TempDir() + "/x"
		b := bytes.Clone(base)
		copy(b[1024+int(at):], patch)
		if err := os.WriteFile(img, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = Trim(context.Background(), img)
	})
}

// TestCheckReadsMessages damages an image so that e2fsck tells of it and exits with
// 0 all the same, if it does.
func TestCheckReadsMessages(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck", "debugfs")
	for name, c := range map[string]struct{ options, damage string }{
		"free blocks":           {"^metadata_csum", "ssv free_blocks_count 77"},
		"free inodes":           {"^metadata_csum", "ssv free_inodes_count 77"},
		"free blocks, bigalloc": {"bigalloc,^metadata_csum", "ssv free_blocks_count 77"},
		"a link count":          {"metadata_csum", "sif lost+found links_count 9"},
		"a size":                {"metadata_csum", "sif lost+found size 1"},
		"a bitmap":              {"metadata_csum", "setb 5000 3"},
	} {
		t.Run(name, func(t *testing.T) {
			img := t.TempDir() + "/i.img"
			fsystest.Run(t, "mke2fs", "-q", "-t", "ext4", "-F", "-O", c.options, img, "64M")
			if err := Check(t.Context(), img); err != nil {
				t.Fatal(err)
			}
			fsystest.Run(t, "debugfs", "-w", "-R", c.damage, img)
			fsystest.WantError(t, Check(t.Context(), img), "has errors")
		})
	}
}

// TestCheckHandsOnWhatItIsTold: every line is one, whatever names are in it, and the exit
// status is e2fsck's.
func TestCheckHandsOnWhatItIsTold(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck", "debugfs")
	img := t.TempDir() + "/i.img"
	fsystest.Run(t, "mke2fs", "-q", "-t", "ext4", "-F", "-O", "^metadata_csum", img, "16M")
	fsystest.Run(t, "debugfs", "-w", "-R", `write /dev/null "a; b? no"`, img)
	fsystest.Run(t, "debugfs", "-w", "-R", "clri <12>", img)
	var found *tool.Failure
	if err := Check(t.Context(), img); !errors.As(err, &found) || found.Code != 4 || !strings.Contains("\n"+found.Output, "\nEntry 'a; b? no' in / (2) has deleted/unused inode 12") {
		t.Errorf("%v: %+v", err, found)
	}
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0x80}, 1024+0x60+3); err != nil { // a feature of the future
		t.Fatal(err)
	}
	err = Check(t.Context(), img)
	fsystest.WantError(t, err, "the ext4 file system has errors: ", "unsupported feature")
	if !errors.As(err, &found) || found.Code != 8 {
		t.Errorf("%+v", found)
	}
}
