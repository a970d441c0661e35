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
	for range 7 {
		_, content, table := counted(t, random, 1+random.Int64N(20*BlockSize))
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
			got := b.With(a.Size(), a.Since(b))
			sameTable(t, got, a)
			for _, c := range tables { // of the same text as got, and other changes
				again := b.With(c.Size(), c.Since(b))
				sameTable(t, again.With(a.Size(), got.Since(again)), a)
				sameTable(t, got.With(c.Size(), c.Since(got)), c)
			}
		}
		if n := len(a.Since(a)); n > 0 {
			t.Errorf("a table has %d differences to itself", n)
		}
	}
}

// A table that shares the text of another one is as one with a text of its own, also after its
// file was cut and has grown again.
func TestTablesThatShareATextAreLikeOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(20, 4))
	_, _, root := counted(t, random, 200*BlockSize+77)
	var all []*Table
	for range 8 {
		now := root
		for range 1 + random.IntN(6) {
			size := max(1, now.Size()+(random.Int64N(9)-4)*BlockSize)
			var changed []Leaf
			for at := random.Int64N(40); at < Blocks(size); at += 1 + random.Int64N(60) {
				changed = append(changed, Leaf{at, [32]byte{byte(random.IntN(3))}})
			}
			flat := parsed(t, now)
			now, flat = now.With(size, changed), flat.With(size, changed)
			sameTable(t, now, parsed(t, flat))
		}
		if &now.text[0] != &root.text[0] {
			t.Fatal("the table has a text of its own")
		}
		all = append(all, now)
	}
	for _, a := range all {
		for _, b := range all {
			if got, want := a.Since(b), parsed(t, a).Since(parsed(t, b)); !slices.Equal(got, want) {
				t.Errorf("the difference is %v, want %v", got, want)
			}
			sameTable(t, b.With(a.Size(), a.Since(b)), a)
		}
	}
}

// parsed returns the same table with a text of its own.
func parsed(t *testing.T, table *Table) *Table {
	t.Helper()
	own, err := ParseTable(bytes.Clone(table.Text()), table.Digest())
	check(t, err)
	return own
}

// sameTable compares all that two tables say.
func sameTable(t *testing.T, got, want *Table) {
	t.Helper()
	if got.Digest() != want.Digest() || got.Size() != want.Size() || got.Len() != want.Len() || !bytes.Equal(got.Text(), want.Text()) {
		t.Fatalf("a table of %d bytes with %d leaves is not that of %d with %d", got.Size(), got.Len(), want.Size(), want.Len())
	}
	if leaves := slices.Collect(got.All()); !slices.Equal(leaves, slices.Collect(want.All())) || len(leaves) != want.Len() {
		t.Fatalf("the leaves are %v", leaves)
	}
	for i := range Blocks(want.Size()) + 2 {
		if got.At(i) != want.At(i) || !slices.Equal(slices.Collect(got.Between(i, i+5)), slices.Collect(want.Between(i, i+5))) {
			t.Fatalf("block %d is another", i)
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
	twice := slices.Concat(table.Text(), table.Text()[headSize:headSize+entrySize])
	for name, text := range map[string][]byte{
		"nothing": nil, "a file": []byte("b9 tree 1 full"), "cut": table.Text()[:len(table.Text())-1],
		"in no order": twice, "head alone, cut": table.Text()[:12],
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
