package compare

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"b9.build/b9/engine/internal/blob"
)

// TestDifferences compares the runs with a comparison of every sector, in files with
// holes and an end within a sector.
func TestDifferences(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewSource(seed))
	for range 20 {
		size := 1 + rnd.Intn(3<<20)
		a := make([]byte, size)
		for range 5 {
			from := rnd.Intn(size)
			rnd.Read(a[from:min(size, from+rnd.Intn(1<<20))])
		}
		b := bytes.Clone(a)
		for range rnd.Intn(20) {
			b[rnd.Intn(size)] ^= 1
		}
		var want Runs
		for at := 0; at < size; at += unit {
			if end := min(at+unit, size); !bytes.Equal(a[at:end], b[at:end]) {
				want.Add(Run{int64(at), int64(end)})
			}
		}
		equal := want.Between(int64(size)) // a part of which is known
		if len(equal) > 0 {
			equal = equal[:rnd.Intn(len(equal))]
		}
		if whole := slices.Concat(want, want.Between(int64(size))); len(Sorted(whole...)) > 1 {
			t.Fatalf("%v and what lies between is %v", want, whole)
		}
		var got Runs
		for r, err := range Differences(t.Context(), sparseFile(t, a), sparseFile(t, b), equal, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got.Add(r)
		}
		if len(got) != len(want) {
			t.Fatalf("%v, want %v", got, want)
		}
		if x := (Run{int64(size) / 3, int64(size) / 2}); !slices.Equal(want.Within(x), cut(want, x)) {
			t.Fatalf("of %v in %v are %v", want, x, want.Within(x))
		}
		for i := range got {
			if got[i] != want[i] || !want.Cover(got[i]) || !want.Touch(got[i]) {
				t.Fatalf("%v, want %v", got, want)
			}
		}
		if want.Touch(Run{int64(size), int64(size) + 1}) || want.Cover(Run{0, int64(size) + 1}) {
			t.Error("it covers what is behind the end")
		}
	}
}

// cut is Within, written down plainly.
func cut(r Runs, x Run) (parts Runs) {
	for _, y := range r {
		if from, to := max(x.From, y.From), min(x.To, y.To); from < to {
			parts = append(parts, Run{from, to})
		}
	}
	return parts
}

// sparseFile writes data with holes where there are 64 KiB of zeros.
func sparseFile(t *testing.T, data []byte) blob.Blob {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 64 << 10 {
		if part := data[at:min(len(data), at+64<<10)]; len(bytes.Trim(part, "\x00")) > 0 {
			if _, err := f.WriteAt(part, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	b, err := blob.FromFile(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// smallBtrfs is a superblock and a node that is its tree of chunks and of roots, with
// the root of the tree of files as the only item.
func smallBtrfs() (sb, node []byte) {
	sb, node = make([]byte, 4096), make([]byte, 4096)
	le := binary.LittleEndian
	copy(sb[0x40:], "_BHRfS_M")
	le.PutUint64(sb[0x88:], 1)
	le.PutUint32(sb[0x94:], 4096)
	for _, at := range []int{0x50, 0x58} {
		le.PutUint64(sb[at:], 1<<20)
	}
	chunk := sb[0x32b:]
	chunk[8] = chunkItem
	le.PutUint64(chunk[keySize:], 1<<30)
	le.PutUint16(chunk[keySize+44:], 1)
	le.PutUint32(sb[0xa0:], keySize+48+32)
	le.PutUint64(node[0x30:], 1<<20)
	le.PutUint32(node[0x60:], 1)
	node[101] = 5 // the tree of files
	node[101+8] = rootItem
	le.PutUint32(node[101+keySize:], 100)
	le.PutUint32(node[101+keySize+4:], 200)
	return sb, node
}

// FuzzSuperblocks reads images that are damaged anyhow: there is an end, and no crash.
func FuzzSuperblocks(f *testing.F) {
	sb, node := smallBtrfs()
	f.Add(sb, node)
	f.Fuzz(func(t *testing.T, sb, node []byte) {
		img := make([]byte, 2<<20)
		copy(img, sb)
		copy(img[64<<10:], sb)
		copy(img[1<<20:], node)
		r := bytes.NewReader(img)
		if _, err := Btrfs(r, r, nil); err != nil {
			t.Skip(err)
		}
		if runs, ok, err := XFS(r, r); err != nil || ok && !runs.Cover(Run{0, 512}) {
			t.Errorf("%v, %v, %v", runs, ok, err)
		}
	})
}

// TestBtrfsComparesRoots: a root tree is the same as itself, and not as one in which
// the tree of files lies elsewhere; what lies in data chunks is not told.
func TestBtrfsComparesRoots(t *testing.T) {
	image := func(kind, place byte) *bytes.Reader {
		img := make([]byte, 2<<20)
		sb, node := smallBtrfs()
		sb[0x32b+keySize+24] = kind
		copy(img[64<<10:], sb)
		copy(img[1<<20:], node)
		img[1<<20+101+100+176] = place
		return bytes.NewReader(img)
	}
	for _, c := range []struct {
		kind, place byte
		differ      Runs
		want        bool
	}{{4, 1, nil, true}, {4, 2, nil, false}, {4, 1, Runs{{5, 6}}, true}, {chunkData, 1, Runs{{5, 6}}, false}} {
		if same, err := Btrfs(image(c.kind, 1), image(c.kind, c.place), c.differ); err != nil || same != c.want {
			t.Errorf("%+v: %v, %v", c, same, err)
		}
	}
}
