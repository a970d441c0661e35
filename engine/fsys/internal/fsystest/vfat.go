package fsystest

import (
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/tree"
)

func SeedFiles() []tree.File {
	return []tree.File{
		{Path: "meta-data", Data: []byte("instance-id: i-1\n")},
		{Path: "user-data", Data: []byte("#cloud-config\n{}\n")},
		{Path: "network-config", Data: []byte("version: 2\n")},
	}
}

// varied files: names of all kinds, sizes around every boundary.
func VariedFiles() []tree.File {
	rnd := rand.New(rand.NewSource(7))
	files := SeedFiles()
	for i, size := range []int{0, 1, 511, 512, 513, 2047, 2048, 2049, 40_000, 300_001} {
		b := make([]byte, size)
		rnd.Read(b)
		files = append(files, tree.File{Path: fmt.Sprintf("sizes/s%d.bin", i), Data: b, Time: time.Unix(1_700_000_000+int64(i)*3600, 0)})
	}
	for i := range 300 {
		files = append(files, tree.File{Path: fmt.Sprintf("many/a rather long name number %d.text", i), Data: []byte(fmt.Sprint(i))})
	}
	return append(files,
		tree.File{Path: "UPPER.TXT", Data: []byte("8.3")}, tree.File{Path: "lower.txt", Data: []byte("8.3 in small")},
		tree.File{Path: ".hidden", Data: []byte("h")}, tree.File{Path: "two.dots.gz", Data: []byte("d")},
		tree.File{Path: "grüße/日本語 🚀.txt", Data: []byte("u")}, tree.File{Path: "a/b/c/d/e/f/g/h/i/j/deep", Data: []byte("deep")},
		tree.File{Path: strings.Repeat("n", 200), Data: []byte("long")}, tree.File{Path: "empty", Mode: fs.ModeDir | 0o755},
		tree.File{Path: "readonly", Mode: 0o444, Data: []byte("r")}, tree.File{Path: "plus+and[brackets]", Data: []byte("p")})
}

// CompareBlkid holds Probe against blkid.
func CompareBlkid(t *testing.T, img string, info tree.Info) {
	t.Helper()
	out := Run(t, "blkid", "-p", "-o", "export", img)
	want := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			want[k] = strings.ReplaceAll(v, `\ `, " ")
		}
	}
	if info.Type != want["TYPE"] || info.UUID != want["UUID"] {
		t.Errorf("probe says %+v, blkid %v", info, want)
	}
	if label := want["LABEL"]; info.Label != label {
		t.Errorf("probe says label %q, blkid %q", info.Label, label)
	}
}

func SparseFile(t testing.TB, size int64) string {
	p := t.TempDir() + "/sparse"
	Write(t, p, "x")
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	return p
}
