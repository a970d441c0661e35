package digest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"b9.build/b9/engine/internal/sparse"
)

// counted is a file with random blocks, zeros and holes, and its table.
func counted(t *testing.T, random *rand.Rand, size int64) (*os.File, []byte, *Table) {
	t.Helper()
	content := make([]byte, size)
	for at := int64(0); at < size; at += BlockSize / 2 {
		if random.IntN(3) > 0 {
			fill(random, content[at:min(at+BlockSize/2, size)])
		}
	}
	f := open(t, write(t, filepath.Join(t.TempDir(), "f"), string(content)))
	t.Cleanup(func() { f.Close() })
	table, err := Scan(t.Context(), f, size, 2)
	check(t, err)
	return f, content, table
}

func fill(random *rand.Rand, b []byte) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], random.Uint64())
	rand.NewChaCha8(seed).Read(b)
}

// A file that is put together of parts of others, moved and cut in any way, and of bytes of
// its own, has the digest of its bytes when only these are read.
func TestUpdateIsTheDigestOfAllBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(20, 1))
	for round := range 60 {
		known := make([]Known, random.IntN(4))
		sizes := []int64{3 * BlockSize, 40*BlockSize + 5, 200*BlockSize + 4096, 77}
		content := make([]byte, sizes[random.IntN(len(sizes))]+int64(random.IntN(2)*100))
		fill(random, content)
		size := int64(len(content))
		var others [][]byte
		for i := range known {
			_, other, table := counted(t, random, 1+random.Int64N(size+BlockSize))
			known[i].Table, others = table, append(others, other)
			for range random.IntN(20) {
				shift := (random.Int64N(5) - 2) * BlockSize * (random.Int64N(3) - 1)
				if random.IntN(4) == 0 {
					shift += 4096
				}
				from := max(0, shift) + random.Int64N(size)
				to := min(from+random.Int64N(20*BlockSize), size, int64(len(other))+shift)
				if random.IntN(3) == 0 {
					to = min(size, int64(len(other))+shift)
				}
				if from < to && from >= shift {
					known[i].Runs = append(known[i].Runs, sparse.Same{From: from, To: to, Shift: shift})
					copy(content[from:to], other[from-shift:to-shift])
				}
			}
		}
		for i, other := range others { // what a later run has overwritten is not known any more
			known[i].Runs = slices.DeleteFunc(known[i].Runs, func(r sparse.Same) bool {
				return !bytes.Equal(content[r.From:r.To], other[r.From-r.Shift:r.To-r.Shift])
			})
		}
		f := open(t, write(t, filepath.Join(t.TempDir(), "f"), string(content)))
		got, err := Update(t.Context(), f, size, 2, known...)
		check(t, err)
		if want := definition(content); got.Digest() != want {
			t.Errorf("round %d, %d bytes: %v, want %v; known %v", round, size, got.Digest(), want, known)
		}
		f.Close()
	}
}

// What is known is not read: the leaves are those of the table, whatever the file holds.
func TestUpdateDoesNotReadWhatIsKnown(t *testing.T) {
	random := rand.New(rand.NewPCG(20, 2))
	size := int64(100*BlockSize + 10)
	_, content, table := counted(t, random, size)
	empty := open(t, sparseFile(t, filepath.Join(t.TempDir(), "f"), size, 0))
	defer empty.Close()
	got, err := Update(t.Context(), empty, size, 0, Known{table, []sparse.Same{{From: 0, To: size}}})
	check(t, err)
	if got.Digest() != definition(content) || got.Digest() != table.Digest() {
		t.Errorf("%v, want %v", got.Digest(), table.Digest())
	}
	got, err = Update(t.Context(), empty, size, 0, Known{table, []sparse.Same{{From: 5 * BlockSize, To: 7*BlockSize - 1}}})
	check(t, err)
	if want := NewTable(size); !bytes.Equal(got.Text(), want.With(size, []Leaf{{5, table.At(5)}}).Text()) {
		t.Errorf("of a run of one block and nearly a second the leaves are %v", slices.Collect(got.All()))
	}
}

func TestTablesDifferAndAreMadeOfDifferences(t *testing.T) {
	random := rand.New(rand.NewPCG(20, 3))
	var tables []*Table
	for range 12 {
		_, content, table := counted(t, random, 1+random.Int64N(30*BlockSize))
		if table.Digest() != definition(content) || table.Size() != int64(len(content)) {
			t.Fatalf("the table of %d bytes says %v, %d", len(content), table.Digest(), table.Size())
		}
		for i := range Blocks(table.Size()) {
			block := content[i*BlockSize : min((i+1)*BlockSize, table.Size())]
			want := Leaves(nil, block, i)
			if sum := table.At(i); len(want) == 0 && sum != (Digest{}) || len(want) == 1 && sum != want[0].Sum {
				t.Errorf("block %d has %x, want %v", i, sum, want)
			}
		}
		tables = append(tables, table)
	}
	for _, a := range tables {
		for _, b := range tables {
			if got := b.With(a.Size(), a.Since(b)); got.Digest() != a.Digest() {
				t.Errorf("with its difference a table of %d bytes is not that of %d", b.Size(), a.Size())
			}
		}
		if n := len(a.Since(a)); n > 0 {
			t.Errorf("a table has %d differences to itself", n)
		}
	}
}

func TestATableProvesItself(t *testing.T) {
	_, _, table := counted(t, rand.New(rand.NewPCG(7, 7)), 5*BlockSize)
	if got, err := ParseTable(table.Text(), table.Digest()); err != nil || got.Len() != table.Len() {
		t.Errorf("%v, %v", got, err)
	}
	for i := range table.Text() {
		text := bytes.Clone(table.Text())
		text[i] ^= 1
		if _, err := ParseTable(text, table.Digest()); err == nil {
			t.Fatalf("a table with another byte at %d is believed", i)
		}
	}
	// Texts that no file has, under the digests that they would have.
	twice := &Table{slices.Concat(table.Text(), table.entry(0))}
	for name, text := range map[string][]byte{
		"nothing": nil, "a file": []byte("b9 tree 1 full"), "cut": table.Text()[:len(table.Text())-1],
		"in no order": twice.Text(), "head alone, cut": table.Text()[:12],
	} {
		if _, err := ParseTable(text, Sum(text)); err == nil {
			t.Errorf("%s is a table", name)
		}
	}
	past := NewTable(5)
	past.Add([]Leaf{{1, [32]byte{1}}})
	if _, err := ParseTable(past.Text(), past.Digest()); err == nil {
		t.Error("a leaf past the end is believed")
	}
}

func BenchmarkTable(b *testing.B) {
	for _, gib := range []int64{1, 8, 16} {
		size := gib << 30
		table := NewTable(size)
		for i := range Blocks(size) {
			table.Add([]Leaf{{i, Sum(fmt.Append(nil, i))}})
		}
		changed := []Leaf{{3, [32]byte{1}}, {70, [32]byte{2}}}
		b.Run(fmt.Sprintf("%d GiB", gib), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read, err := ParseTable(table.Text(), table.Digest())
				if err != nil {
					b.Fatal(err)
				}
				read.With(size, changed).Digest()
			}
		})
	}
}
