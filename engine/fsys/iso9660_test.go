package fsys

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/tree"
)

// posixFiles is what only Rock Ridge holds.
func posixFiles() []tree.File {
	return []tree.File{
		{Path: "bin/su", Mode: 0o755 | fs.ModeSetuid, UID: 7, GID: 70000, Data: []byte("#!")},
		{Path: "bin/hard", Link: "bin/su"},
		{Path: "abs", Mode: fs.ModeSymlink, Link: "/usr/./share/../lib"},
		{Path: "long", Mode: fs.ModeSymlink, Link: strings.Repeat("component/", 70) + strings.Repeat("c", 250)},
		{Path: strings.Repeat("x", 254) + "l", Mode: fs.ModeSymlink, Link: strings.Repeat("y", 255)},
		{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		{Path: "fifo", Mode: fs.ModeNamedPipe | 0o600},
		{Path: "sticky", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

func TestISO(t *testing.T) {
	fsystest.Need(t, "isoinfo", "xorriso", "blkid")
	fsystest.NeedRoot(t)
	dir := t.TempDir()
	files := append(variedFiles(), posixFiles()...)
	o := iso9660.Options{VolumeID: "cidata", Joliet: true, RockRidge: true, Time: time.Unix(1_600_000_000, 0)}
	img := dir + "/s.iso"
	if err := iso9660.Make(t.Context(), img, o, tree.FromFiles(files, o.Time)); err != nil {
		t.Fatal(err)
	}
	out := dir + "/out"
	msg := fsystest.Run(t, "xorriso", "-report_about", "NOTE", "-abort_on", "FAILURE", "-osirrox", "on:device_files", "-indev", img, "-extract", "/", out)
	for _, bad := range []string{"FAILURE", "SORRY", "WARNING", "damaged"} {
		if strings.Contains(msg, bad) {
			t.Errorf("xorriso: %s", msg)
		}
	}
	for _, f := range files {
		compareFile(t, filepath.Join(out, f.Path), f)
	}
	info, err := Probe(img, 0, 0)
	if err != nil || info.Type != "iso9660" || info.Label != "cidata" || info.Size != fileSize(t, img) {
		t.Errorf("probe: %+v %v", info, err)
	}
	compareBlkid(t, img, info)
	for _, flag := range []string{"-R", "-J"} {
		list := fsystest.Run(t, "isoinfo", flag, "-f", "-i", img)
		for _, want := range []string{"/user-data", "/meta-data", "/sizes/s9.bin", "/a/b/c/d/e/f/g/h/i/j/deep"} {
			if !strings.Contains(list, want+"\n") {
				t.Errorf("isoinfo %s does not list %s:\n%.3000s", flag, want, list)
			}
		}
		if got := fsystest.Run(t, "isoinfo", flag, "-x", "/user-data", "-i", img); got != "#cloud-config\n{}\n" {
			t.Errorf("isoinfo %s reads %q", flag, got)
		}
	}
	if got := fsystest.Run(t, "isoinfo", "-x", "/USER_DATA.;1", "-i", img); got != "#cloud-config\n{}\n" {
		t.Errorf("isoinfo reads %q", got)
	}
}

func compareFile(t *testing.T, p string, f tree.File) {
	t.Helper()
	st, err := os.Lstat(p)
	if err != nil {
		t.Error(err)
		return
	}
	switch {
	case f.Mode&fs.ModeSymlink != 0:
		if target, _ := os.Readlink(p); target != f.Link {
			t.Errorf("%.40s: link to %q, want %q", f.Path, target, f.Link)
		}
	case f.Mode.IsRegular() && f.Link == "":
		got, err := os.ReadFile(p)
		if err != nil || string(got) != string(f.Data) {
			t.Errorf("%s: %d bytes, want %d: %v", f.Path, len(got), len(f.Data), err)
		}
	}
	if f.Mode != 0 && f.Mode&fs.ModeSymlink == 0 && st.Mode() != f.Mode {
		t.Errorf("%s: mode %v, want %v", f.Path, st.Mode(), f.Mode)
	}
	if !f.Time.IsZero() && !st.ModTime().Equal(f.Time) {
		t.Errorf("%s: time %v, want %v", f.Path, st.ModTime(), f.Time)
	}
	var raw unix.Stat_t
	if err := unix.Lstat(p, &raw); err == nil && f.Link == "" && (int(raw.Uid) != f.UID || int(raw.Gid) != f.GID) {
		t.Errorf("%s: owner %d:%d, want %d:%d", f.Path, raw.Uid, raw.Gid, f.UID, f.GID)
	}
	if f.Major != 0 && (unix.Major(raw.Rdev) != f.Major || unix.Minor(raw.Rdev) != f.Minor) {
		t.Errorf("%s: device %d:%d", f.Path, unix.Major(raw.Rdev), unix.Minor(raw.Rdev))
	}
}

func TestISOSameBytes(t *testing.T) {
	dir := t.TempDir()
	o := iso9660.Options{VolumeID: "cidata", Joliet: true, RockRidge: true}
	files := variedFiles()
	if err := iso9660.Make(t.Context(), dir+"/a", o, tree.FromFiles(files, o.Time)); err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(files)-1; i < j; i, j = i+1, j-1 {
		files[i], files[j] = files[j], files[i]
	}
	if err := iso9660.Make(t.Context(), dir+"/b", o, tree.FromFiles(files, o.Time)); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, dir+"/a", dir+"/b")
	const want = "3f2052ecd08448493756ebfd59e44a00b96a958afc3654271d51e1029b64496b" // on every day
	if got := sum(t, dir+"/a"); got != want {
		t.Errorf("its digest is %s, want %s", got, want)
	}
}
