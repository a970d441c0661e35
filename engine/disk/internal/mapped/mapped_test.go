package mapped

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
)

// blocks is an image with blocks of 16 bytes, whose table of 16-bit entries, each
// the offset of a block, lies at 2 of the file.
func blocks(t *testing.T, content []byte, n int64) *Image {
	t.Helper()
	x := &Blocks{Name: "test", At: 2, Entry: 2, Unit: 16, Blocks: n, Decode: func(e []byte) (Spot, error) {
		switch at := binary.LittleEndian.Uint16(e); at {
		case 0:
			return Spot{Kind: Hole}, nil
		case 1:
			return Spot{Kind: Zero}, nil
		case 2:
			return Spot{}, errors.New("bad entry")
		default:
			return Spot{Kind: Plain, At: int64(at)}, nil
		}
	}}
	m, err := x.Open(image.Bytes(content), n*16)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// content is a file of 80 bytes with a table at 2: blocks lie at 16, 32 ... 64.
func content(entries ...byte) []byte {
	b := make([]byte, 80)
	for i, e := range entries {
		b[2+2*i] = e
	}
	for i := 16; i < len(b); i++ {
		b[i] = byte(i)
	}
	return b
}

func TestNeighboursAreOneSpot(t *testing.T) {
	m := blocks(t, content(16, 32, 64, 0, 0, 1), 6)
	for _, c := range []struct {
		off  int64
		want Spot
	}{
		{0, Spot{Kind: Plain, At: 16, Length: 32}}, {5, Spot{Kind: Plain, At: 21, Length: 27}},
		{32, Spot{Kind: Plain, At: 64, Length: 16}}, {50, Spot{Kind: Hole, Length: 30}}, {80, Spot{Kind: Zero, Length: 16}},
	} {
		if got, err := m.Locate(c.off); err != nil || got != c.want {
			t.Errorf("at %d: %+v, %v; want %+v", c.off, got, err, c.want)
		}
	}
}

func TestReadsFollowTheTable(t *testing.T) {
	b := content(32, 0, 16)
	m := blocks(t, b, 3)
	want := bytes.Join([][]byte{b[32:48], make([]byte, 16), b[16:32]}, nil)
	got := make([]byte, 48)
	if n, err := m.ReadAt(got, 0); n != 48 || err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes %v, %v; want %v", n, got, err, want)
	}
}

// TestChunksOfEntries reads a table in which each third entry is no block's.
func TestChunksOfEntries(t *testing.T) {
	b := content(16, 32, 2, 48, 64, 2)
	x := &Blocks{Name: "test", At: 2, Entry: 2, Unit: 16, Blocks: 4, Chunk: 2, Decode: func(e []byte) (Spot, error) {
		return Spot{Kind: Plain, At: int64(binary.LittleEndian.Uint16(e))}, nil
	}}
	m, err := x.Open(image.Bytes(b), 64)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	if n, err := m.ReadAt(got, 0); n != 64 || err != nil || !bytes.Equal(got, b[16:]) {
		t.Errorf("%d bytes %v, %v", n, got, err)
	}
}

// TestZerosThatAreNoHoles reads a table in a hole of the file: an entry of zeros
// is a block here.
func TestZerosThatAreNoHoles(t *testing.T) {
	x := &Blocks{Name: "test", At: 1 << 20, Entry: 2, Unit: 16, Blocks: 4096, Decode: func([]byte) (Spot, error) {
		return Spot{Kind: Plain, At: 32}, nil
	}}
	m, err := x.Open(image.Blank(3<<20), 16*4096)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Locate(16); err != nil || got != (Spot{Kind: Plain, At: 32, Length: 16}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestACheckFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		entries []byte
		want    string
	}{
		"two blocks in one":   {[]byte{16, 16}, "at 16: the place in the file, offset 16, is taken twice"},
		"past the end":        {[]byte{16, 80}, "block at offset 80 of a file of 80 bytes"},
		"an entry of no kind": {[]byte{2, 16}, "at 0: bad entry"},
	} {
		var r image.Report
		if err := blocks(t, content(c.entries...), 2).Check(context.Background(), &r); err != nil || r.Corruptions != 1 || !strings.Contains(r.Problems[0], c.want) {
			t.Errorf("%s: %+v, %v; want %q", name, r, err, c.want)
		}
	}
}

func TestATableMustLieInTheFile(t *testing.T) {
	for at, good := range map[int64]bool{-2: false, 0: false, 1: true, 2: true, 3: false} {
		x := &Blocks{Name: "test", At: at, Entry: 2, Unit: 16, Blocks: 9}
		if _, err := x.Open(image.Bytes(make([]byte, 20)), 144); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "does not lie in the file of 20 bytes") {
			t.Errorf("a table of 18 bytes at %d of a file of 20: %v", at, err)
		}
	}
}

func TestRepeated(t *testing.T) {
	for _, c := range []struct {
		entries []uint32
		want    uint32
		twice   bool
	}{
		{nil, 0, false}, {[]uint32{0, 0, 1, 2, 0, 9}, 0, false}, {[]uint32{3, 1, 2}, 0, false},
		{[]uint32{3, 1, 3}, 3, true}, {[]uint32{5, 5}, 5, true}, {[]uint32{0x81, 1}, 1, true},
	} {
		if got, twice := Repeated(c.entries, 0x7f); got != c.want || twice != c.twice {
			t.Errorf("%v: %d, %v", c.entries, got, twice)
		}
	}
}
