package b9_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// TestGoldenResults builds the workspace of results.txtar, and holds what
// comes out to the digests in results.txt. Names that begin with ext4 count only
// where mke2fs has the version that the file tells.
func TestGoldenResults(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: owners are set")
	}
	defer syscall.Umask(syscall.Umask(0o022)) // as the command sets it
	root := unpackWorkspace(t, filepath.Join("testdata", "golden", "results.txtar"))
	writeFile(t, filepath.Join(root, "root.tar"), goldenTar(t))
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	w, err := lang.Open(t.Context(), lang.Config{Root: root, Dir: root, Operations: builtins.Operations(builtins.Settings{})})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{"//..."})
	if err != nil {
		t.Fatal(err)
	}
	var refs []engine.Ref
	for _, target := range g.Targets {
		refs = append(refs, target.Refs...)
	}
	eng := engine.New(engine.Config{Store: st})
	defer eng.Close()
	result, err := eng.Build(t.Context(), refs...)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(refs, func(a, b engine.Ref) int { return strings.Compare(a.String(), b.String()) })
	var always, ext4 bytes.Buffer
	version := mke2fsVersion(t)
	fmt.Fprintf(&ext4, "mke2fs %s\n", version)
	for _, ref := range refs {
		to := &always
		if strings.HasPrefix(ref.String(), "//:ext4") {
			to = &ext4
		}
		fmt.Fprintf(to, "%s %s\n", ref, result.Artifact(ref).Digest())
	}
	golden(t, "results.txt", always.Bytes())
	if known, err := os.ReadFile("testdata/golden/results_ext4.txt"); !*update && (err != nil || !strings.HasPrefix(string(known), "mke2fs "+version+"\n")) {
		first, _, _ := strings.Cut(string(known), "\n")
		t.Skipf("results_ext4.txt is that of %s, and this machine has mke2fs %s (%v)", first, version, err)
	}
	golden(t, "results_ext4.txt", ext4.Bytes())
}

// goldenTar is an archive with an entry of every type.
func goldenTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./dir/", Mode: 0o1777, Uid: 33, Gid: 34},
		{Typeflag: tar.TypeReg, Name: "./dir/file", Mode: 0o4755, Uid: 70000, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "value"}},
		{Typeflag: tar.TypeSymlink, Name: "./link", Linkname: "dir/file", Mode: 0o777},
		{Typeflag: tar.TypeLink, Name: "./hard", Linkname: "./dir/file"},
		{Typeflag: tar.TypeChar, Name: "./null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeFifo, Name: "./fifo", Mode: 0o600},
	} {
		h.ModTime, h.Format = at, tar.FormatPAX
		text := "content of a file\n"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mke2fsVersion is the version and date that mke2fs prints first.
func mke2fsVersion(t *testing.T) string {
	t.Helper()
	path, err := tool.Find("mke2fs")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "-V").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "mke2fs ")
}
