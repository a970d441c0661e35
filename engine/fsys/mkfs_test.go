package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/tree"
)

const fixedUUID = "a1b2c3d4-1111-2222-8333-444444444444"

// TestEROFS holds the kernel's view of an erofs against its source, and the bytes
// against those from a directory in which everything was made in another order.
func TestEROFS(t *testing.T) {
	fsystest.Need(t, "mkfs.erofs", "fsck.erofs", "tar", "mount")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 5)
	buildTree(t, dir+"/other", 6)
	long := "/" + strings.Repeat("n", 255)
	err := mkfs.Make(t.Context(), dir+"/long", mkfs.EROFS, mkfs.Options{}, tree.FromDir(dir+"/src"))
	fsystest.WantError(t, err, "its name has 255 bytes")
	if err := errors.Join(os.Remove(dir+"/src"+long), os.Remove(dir+"/other"+long)); err != nil {
		t.Fatal(err)
	}
	finishTree(t, dir+"/src")
	finishTree(t, dir+"/other")
	want := tarOf(t, dir+"/src")
	for _, compress := range []string{"", "lz4", "lz4hc"} {
		o := mkfs.Options{Compress: compress, Time: time.Unix(1000, 0)}
		img, again := dir+"/"+compress+".img", dir+"/"+compress+".again"
		err := errors.Join(mkfs.Make(t.Context(), img, mkfs.EROFS, o, tree.FromDir(dir+"/src")), mkfs.Make(t.Context(), again, mkfs.EROFS, o, tree.FromDir(dir+"/other")))
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, img, again)
		if err := Check(t.Context(), img); err != nil {
			t.Error(err)
		}
		if got := tarOf(t, mountImage(t, img)); got != want {
			t.Error(compress, firstDifference(want, got))
		}
		info, err := Probe(img, 0, 0)
		if err != nil || info.Type != "erofs" || info.Size != fileSize(t, img) {
			t.Errorf("%+v, %v, %d bytes", info, err, fileSize(t, img))
		}
		compareBlkid(t, img, info)
	}
}

// TestEROFSSettings: what is asked for is what the superblock says, and what makes a
// difference makes one in the UUID.
func TestEROFSSettings(t *testing.T) {
	fsystest.Need(t, "mkfs.erofs")
	dir := t.TempDir()
	uuids := map[string]bool{}
	for i, o := range []mkfs.Options{{UUID: fixedUUID}, {}, {Compress: "lz4"}} {
		for _, data := range []string{"a", "bb"} {
			img := fmt.Sprintf("%s/%d%s", dir, i, data)
			content := tree.FromFiles([]tree.File{{Path: "f", Data: []byte(data), UID: os.Geteuid(), GID: os.Getegid()}}, time.Unix(5, 0))
			if err := mkfs.Make(t.Context(), img, mkfs.EROFS, o, content); err != nil {
				t.Fatal(err)
			}
			info, err := Probe(img, 0, 0)
			if err != nil || i == 0 && info.UUID != fixedUUID || i > 0 && uuids[info.UUID] {
				t.Errorf("%+v: %+v, %v", o, info, err)
			}
			uuids[info.UUID] = true
		}
	}
	fsystest.WantError(t, mkfs.Make(t.Context(), dir+"/x", mkfs.EROFS, mkfs.Options{}, nil), "erofs: the content is missing")
	fsystest.Gone(t, dir+"/x")
}

// f2fsFiles are files of all kinds that f2fs holds here.
func f2fsFiles() []tree.File {
	return []tree.File{
		{Path: "d", Mode: fs.ModeDir | fs.ModeSticky | 0o777, Time: time.Unix(70, 0)},
		{Path: "d/suid", Mode: fs.ModeSetuid | 0o755, Data: []byte("x"), UID: 1000, GID: 2000, Time: time.Unix(71, 0)},
		{Path: "big", Data: []byte(strings.Repeat("0123456789abcdef", 400_000)), Time: time.Unix(72, 0)},
		{Path: "link", Mode: fs.ModeSymlink, Link: "d/suid", Time: time.Unix(73, 0)},
		{Path: "hard", Link: "big"},
		{Path: "secret", Mode: 0o600, Data: []byte("s"), Time: time.Unix(74, 0)},
		{Path: "closed", Mode: fs.ModeDir | 0o500, Time: time.Unix(75, 0)},
		{Path: "closed/in", Data: []byte("in"), Time: time.Unix(76, 0)},
	}
}

// TestF2FS reads back what dump.f2fs says of each file: this kernel may have no driver.
func TestF2FS(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.f2fs", "sload.f2fs", "fsck.f2fs", "dump.f2fs", "resize.f2fs")
	dir := t.TempDir()
	img := dir + "/img"
	o := mkfs.Options{Label: "daten-ä", Time: time.Unix(1000, 0), Free: 1 << 20}
	for _, path := range []string{img, dir + "/again"} {
		if err := mkfs.Make(t.Context(), path, mkfs.F2FS, o, tree.FromFiles(f2fsFiles(), time.Unix(69, 0))); err != nil {
			t.Fatal(err)
		}
	}
	sameBytes(t, img, dir+"/again")
	got := inodesOfF2FS(t, img)
	for name, want := range map[string]string{
		"d": "43ff 0 0 2 70", "suid": "89ed 1000 2000 1 71", "big": "81a4 0 0 2 72", "link": "a1ff 0 0 1 73",
		"secret": "8180 0 0 1 74", "closed": "4140 0 0 2 75", "in": "81a4 0 0 1 76",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	info, err := Probe(img, 0, 0)
	if err != nil || info.Type != "f2fs" || info.Label != "daten-ä" {
		t.Errorf("%+v, %v", info, err)
	}
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	old := fileSize(t, img)
	if err := Resize(t.Context(), img, old*2, nil); err != nil {
		t.Fatal(err)
	}
	if info, err = Probe(img, 0, 0); err != nil || info.Size < old*2-4<<20 {
		t.Errorf("grown it has %d bytes of %d, %v", info.Size, old*2, err)
	}
	if err := Check(t.Context(), img); err != nil {
		t.Error("grown:", err)
	}
	fsystest.WantError(t, Resize(t.Context(), img, old, nil), "a f2fs can't become smaller")
}

var f2fsField = regexp.MustCompile(`(?m)^i_(mode|uid|gid|links|mtime|name)\s+\[(?:0x\s*)?([^\]:]*?)(?: : (\d+))?\]`)

// inodesOfF2FS are "MODE UID GID LINKS MTIME" by name, the mode in hexadecimal.
func inodesOfF2FS(t *testing.T, img string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for i := 4; i < 20; i++ {
		f := map[string]string{}
		cmd := exec.Command("dump.f2fs", "-i", fmt.Sprint(i), img)
		cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader("N\n") // it asks whether to write the data to a file
		out, _ := cmd.Output()
		for _, m := range f2fsField.FindAllStringSubmatch(string(out), -1) {
			f[m[1]] = m[3]
			if m[1] == "mode" || m[1] == "name" {
				f[m[1]] = m[2]
			}
		}
		found[f["name"]] = fmt.Sprint(f["mode"], " ", f["uid"], " ", f["gid"], " ", f["links"], " ", f["mtime"])
	}
	return found
}

// TestF2FSNoRoom: what is said to be enough is no less.
func TestF2FSNoRoom(t *testing.T) {
	fsystest.Need(t, "mkfs.f2fs", "sload.f2fs")
	path := t.TempDir() + "/img"
	large := tree.FromFiles([]tree.File{{Path: "full", Data: []byte(strings.Repeat("x", 70<<20))}}, time.Time{})
	err := mkfs.Make(t.Context(), path, mkfs.F2FS, mkfs.Options{Size: 60 << 20, Free: 1300 << 20}, large)
	fsystest.WantError(t, err, "the content does not fit into 60MiB: 1656MiB are enough")
	fsystest.Gone(t, path)
}

// TestF2FSRefuses: what sload.f2fs would leave out is an error.
func TestF2FSRefuses(t *testing.T) {
	for want, file := range map[string]tree.File{
		"/null is a device":                {Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice, Major: 1, Minor: 3},
		"/pipe is a device, pipe":          {Path: "pipe", Mode: fs.ModeNamedPipe | 0o644},
		"/f has the attribute user.a":      {Path: "f", Xattrs: map[string]string{"user.a": "b"}},
		"the root of a f2fs has mode 0755": {Path: "/", Mode: fs.ModeDir | 0o700},
	} {
		path := t.TempDir() + "/img"
		fsystest.WantError(t, mkfs.Make(t.Context(), path, mkfs.F2FS, mkfs.Options{}, tree.FromFiles([]tree.File{file}, time.Time{})), want)
		fsystest.Gone(t, path)
	}
	err := mkfs.Make(t.Context(), t.TempDir()+"/img", mkfs.F2FS, mkfs.Options{Size: 1 << 20}, nil)
	fsystest.WantError(t, err, "size 1MiB is below the least, 52MiB")
}
