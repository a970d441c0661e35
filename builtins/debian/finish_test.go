package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeRoot makes a root file system of empty or given files.
func writeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// listRoot lists the files below dir, one a line.
func listRoot(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

func TestTidyRoot(t *testing.T) {
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Skip("needs /etc/resolv.conf")
	}
	keys := filepath.Join(t.TempDir(), "site.gpg")
	if err := os.WriteFile(keys, []byte("keys"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := writeRoot(t, map[string]string{
		"etc/resolv.conf": string(resolv), "etc/hostname": "localhost\n", "etc/machine-id": "0123\n", "etc/passwd": "", "etc/passwd-": "",
		"etc/apt/sources.list": "deb x", "etc/apt/sources.list.d/0000debian.sources": "x", "etc/apt/apt.conf.d/99mmdebstrap": "Proxy",
		"var/lib/apt/lists/a_Packages": "", "var/lib/apt/lists/partial/.keep": "", "var/cache/apt/pkgcache.bin": "",
		"var/log/dpkg.log": "", "var/log/apt/term.log": "", "var/log/wtmp": "", "var/lib/dpkg/status": "", "var/lib/dpkg/status-old": "",
	})
	// A link out of the root must not lead anywhere.
	outside := writeRoot(t, map[string]string{"secret.bin": ""})
	if err := os.RemoveAll(filepath.Join(dir, "var/cache/debconf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "var/cache/debconf")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := &staging{tooling: tooling{bootstrap: &bootstrap{}, sources: []aptSource{
		{URI: "http://me:pw@m.example/debian", Suite: "bookworm", Components: []string{"main"}, Fields: []aptField{{"Signed-By", keys}}},
	}}}
	if err := errors.Join(clean(root), forgetHost(root), forgetIdentity(root), s.writeSources(root)); err != nil {
		t.Fatal(err)
	}
	want := "etc/apt/sources.list.d/debian.sources\netc/machine-id\netc/passwd\n" + keys[1:] + "\nvar/cache/debconf\nvar/lib/apt/lists/partial/.keep\nvar/lib/dpkg/status\nvar/log/wtmp"
	if got := listRoot(t, dir); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	text, _ := root.ReadFile(sourcesFile)
	if want := "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: " + keys + "\n"; string(text) != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
	if id, err := root.ReadFile("etc/machine-id"); err != nil || len(id) != 0 {
		t.Errorf("machine-id is %q, %v", id, err)
	}
}

func TestTidyKeepsWhatPackagesMade(t *testing.T) {
	dir := writeRoot(t, map[string]string{"etc/hostname": "of-a-package\n"})
	if err := os.Symlink("../run/resolv.conf", filepath.Join(dir, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := &staging{tooling: tooling{bootstrap: &bootstrap{}}}
	if err := errors.Join(clean(root), forgetHost(root), forgetIdentity(root), s.writeSources(root)); err != nil {
		t.Fatal(err)
	}
	if got := listRoot(t, dir); got != "etc/hostname\netc/resolv.conf" {
		t.Errorf("got:\n%s", got)
	}
}

func TestSettleTimes(t *testing.T) {
	dir := writeRoot(t, map[string]string{"old": "", "new": ""})
	packaged := time.Date(2023, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(dir, "old"), packaged, packaged); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(86400, 0)
	if err := normalizeTimes(context.Background(), dir, time.Now(), at); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{"old": packaged, "new": at, "link": at, "": at} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !st.ModTime().Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", name, st.ModTime(), err, want)
		}
	}
}

func TestDebCache(t *testing.T) {
	c := debCache{dir: t.TempDir()}
	archives := writeRoot(t, map[string]string{"a_1_all.deb": "aaaa", "b_1%3a2_all.deb": "bb", "lock": "", "partial/c.deb": ""})
	if err := c.adopt(context.Background(), archives); err != nil {
		t.Fatal(err)
	}
	if got := listRoot(t, archives); got != "lock\npartial/c.deb" {
		t.Errorf("left behind:\n%s", got)
	}
	sum := func(s string) string { d := sha256.Sum256([]byte(s)); return hex.EncodeToString(d[:]) }
	if data, err := os.ReadFile(filepath.Join(c.dir, sum("bb"), "b_1%3a2_all.deb")); err != nil || string(data) != "bb" {
		t.Errorf("got %q, %v", data, err)
	}
	// The same package again, as another process adds it.
	archives = writeRoot(t, map[string]string{"a_1_all.deb": "aaaa"})
	if err := c.adopt(context.Background(), archives); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	old := now.Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(c.dir, sum("bb")), old, old); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		age   time.Duration
		space int64
		want  int
	}{{2 * time.Hour, 6, 2}, {2 * time.Hour, 5, 1}, {2 * time.Hour, 3, 0}} {
		if err := c.trim(now, test.age, test.space); err != nil {
			t.Fatal(err)
		}
		if list, err := c.list(); err != nil || len(list) != test.want {
			t.Errorf("%d packages are left of %d bytes, want %d (%v)", len(list), test.space, test.want, err)
		}
	}
}

// The hook gives apt the packages that the lists name and the cache has, but none that
// has another content by now; that one goes.
func TestDamagedPackagesAreNotInstalled(t *testing.T) {
	needRoot(t)
	c := debCache{dir: t.TempDir()}
	archives := writeRoot(t, map[string]string{"sound_1_all.deb": "sound", "flipped_1_all.deb": "flipped", "short_1_all.deb": "short", "other_1_all.deb": "other"})
	if err := c.adopt(t.Context(), archives); err != nil {
		t.Fatal(err)
	}
	sum := func(s string) string { d := sha256.Sum256([]byte(s)); return hex.EncodeToString(d[:]) }
	cached := func(s string) string { return filepath.Join(c.dir, sum(s), s+"_1_all.deb") }
	if err := errors.Join(os.WriteFile(cached("flipped"), []byte("flippeD"), 0o644), os.Truncate(cached("short"), 0)); err != nil {
		t.Fatal(err)
	}
	root, dir, bin := t.TempDir(), t.TempDir(), t.TempDir()
	lists := ""
	for _, s := range []string{"sound", "flipped", "short"} {
		lists += "Package: " + s + "\nSHA256: " + sum(s) + "\n\n"
	}
	err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755), os.MkdirAll(filepath.Join(root, "tmp"), 0o755), os.MkdirAll(filepath.Join(root, "var/lib/apt/lists"), 0o755),
		os.Mkdir(filepath.Join(dir, "lists"), 0o755), os.WriteFile(filepath.Join(dir, "lists/x_Packages"), []byte(lists), 0o644),
		os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "setup-hook.sh", root) // it mounts
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "B9_DEBS=" + c.dir, "B9_DIR=" + dir, "B9_LISTS=" + filepath.Join(dir, "lists"), "B9_MERGE=", "MMDEBSTRAP_APT_CONFIG="}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := listRoot(t, filepath.Join(root, "var/cache/apt/archives")); got != "sound_1_all.deb" {
		t.Errorf("apt gets\n%s", got)
	}
	for _, s := range []string{"flipped", "short"} {
		if _, err := os.Lstat(cached(s)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(string(out), cached(s)+" in the cache is damaged") {
			t.Errorf("the damaged package %s: %v, and the log says\n%s", s, err, out)
		}
	}
}

func TestExplainInstallation(t *testing.T) {
	s := &tooling{bootstrap: &bootstrap{Suite: "bookworm", Arch: "amd64"}, dir: "/job", sources: []aptSource{{URI: "http://me:pw@m.example/debian"}}}
	cause := errors.New("exit status 25")
	for _, test := range []struct{ log, want string }{
		{"Reading package lists...\nE: Unable to locate package vmi\nE: apt failed\n", "bookworm has no package for amd64: Unable to locate package vmi: check its name, or add the component or suite that has it"},
		{"E: Version '9' for 'vim' was not found\n", "bookworm: Version '9' for 'vim' was not found: leave out the version, or pin the archive with snapshot="},
		{"E: The repository 'http://m.example x InRelease' is not signed.\n", "the signature of http://m.example/debian can't be checked: The repository 'http://m.example x InRelease' is not signed.: give keyring= with the archive's keys"},
		{"tar: x: Cannot write: No space left on device\n", "the disk with /job is full: tar: x: Cannot write: No space left on device: free space there, or run b9 cache gc"},
		{"Err:1 http://m\nE: Failed to fetch http://m  Could not resolve 'm'\n", "archive http://m.example/debian can't be reached (Failed to fetch http://m  Could not resolve 'm'): check the network, or give mirror="},
		{"E: Failed to fetch x  File has unexpected size (1 != 2). Mirror sync in progress?\n", "the archive is out of step with itself, as while it is being updated: Failed to fetch x  File has unexpected size (1 != 2). Mirror sync in progress?: build again later, or leave a suite out with suites="},
		{"dpkg: error processing package x\r\nE: other\n", "mmdebstrap: dpkg: error processing package x; other (the log has the rest)"},
		{"first\nhook: cannot be run\n", "mmdebstrap: first; hook: cannot be run (the log has the rest)"},
		{"", "mmdebstrap: exit status 25, and printed nothing"},
		{strings.Repeat("I: a line of progress\n", 2000) + "E: Failed to fetch " + strings.Repeat("x", 1500) + "  Could not resolve 'm'\n", "archive http://m.example/debian can't be reached (..." + strings.Repeat("x", 261) + "  Could not resolve 'm'): check the network, or give mirror="},
	} {
		w := &aptErrors{to: io.Discard}
		for _, b := range []byte(test.log) { // lines come in any pieces
			fmt.Fprintf(w, "%c", b)
		}
		if err := s.explain(w, cause); err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
	w := &aptErrors{to: io.Discard}
	w.Write(bytes.Repeat([]byte("E: x"), 1<<20))
	if len(w.rest) > 4<<20 {
		t.Errorf("%d bytes of a line without end are kept", len(w.rest))
	}
}
