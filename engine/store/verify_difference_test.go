package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/seedtest"
)

// What happens to a difference and to what it rests on is found before it is used, is
// told by verification, and can be made again.
func TestDamagedDifferences(t *testing.T) {
	const block = int64(9)
	at := func(s *Store, o Object, off int64) {
		path := s.objectPath(o)
		check(t, os.Chmod(path, 0o600))
		f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
		if off < 0 {
			off += must[os.FileInfo](t)(f.Stat()).Size()
		}
		must[int](t)(f.WriteAt([]byte("damage"), off))
		check(t, f.Close())
	}
	for name, c := range map[string]struct {
		harm func(s *Store, base, o Object)
		says string // by verification
		gone bool   // the base, too
	}{
		"its bytes":     {func(s *Store, _, o Object) { at(s, o, block*digest.BlockSize+7) }, "of its blocks of 64 KiB 1 are damaged, which begin at byte 589824", false},
		"its trailer":   {func(s *Store, _, o Object) { at(s, o, -30) }, "no whole difference", false},
		"its runs":      {func(s *Store, _, o Object) { at(s, o, -90) }, "no whole difference", false},
		"cut":           {func(s *Store, _, o Object) { check(t, os.Truncate(s.objectPath(o), 2*digest.BlockSize)) }, "no whole difference", false},
		"empty":         {func(s *Store, _, o Object) { check(t, os.Truncate(s.objectPath(o), 0)) }, "no whole difference", false},
		"its base gone": {func(s *Store, base, _ Object) { check(t, os.Remove(s.Path(base.Digest))) }, "what it is a difference to", true},
		"its base":      {func(s *Store, base, _ Object) { at(s, base, 3*digest.BlockSize) }, "what it is a difference to", true},
	} {
		for _, verify := range []bool{false, true} {
			random := rand.New(rand.NewPCG(1, 2))
			dir := filepath.Join(t.TempDir(), "store")
			var base, o Object
			var data, want []byte
			later(t, dir, func(s *Store) {
				base, data = full(t, s, random, leavesFrom)
				o = different(t, s, random, base, block)
				want = contentOf(t, s, o)
				commit(t, s, "o", o)
			})
			s, found := watched(t, dir)
			c.harm(s, base, o)
			if verify {
				r := must[VerifyReport](t)(s.Verify(t.Context(), false))
				all := fmt.Sprint(r.Corrupt, r.Missing)
				if !strings.Contains(all, c.says) || !strings.Contains(all, o.Digest.String()) {
					t.Errorf("%s: verification says %s", name, all)
				}
				if r := must[VerifyReport](t)(s.Verify(t.Context(), true)); r.Removed == 0 {
					t.Errorf("%s: repair reports %+v", name, r)
				}
				sound(t, s)
			}
			if _, ok := s.LookupOutputs(key("o")); ok || s.Has(o) {
				t.Errorf("%s: the object is used", name)
			}
			if err := s.Fork(t.Context(), o.Digest, filepath.Join(t.TempDir(), "f")); !errors.Is(err, ErrNotInStore) {
				t.Errorf("%s: fork: %v", name, err)
			}
			if c.gone == s.Has(base) {
				t.Errorf("%s: the base is there: %v", name, s.Has(base))
			}
			if _, ok := s.Recorded(key("o")); !ok {
				t.Errorf("%s: the record of the step that makes it is gone", name)
			}
			if !verify && !c.gone && len(*found) != 1 {
				t.Errorf("%s: told of %v", name, *found)
			}
			if got := adopt(t, s, string(data)); got != base {
				t.Errorf("%s: the base became %v", name, got)
			}
			if got := different(t, s, rand.New(rand.NewPCG(9, 9)), base, block+1); !s.Has(got) {
				t.Errorf("%s: nothing can be made of the base again", name)
			}
			if got := adopt(t, s, string(want)); got != o || !s.Has(o) || !bytes.Equal(contentOf(t, s, o), want) {
				t.Errorf("%s: the object can't be made again", name)
			}
			check(t, s.Close())
		}
	}
}

// Blocks of a difference are mended from elsewhere, and those of its base from a difference.
func TestBlocksOfDifferencesAreMended(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	base, data := full(t, s, random, leavesFrom)
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	// Block 9 gets what block 20 of the base has, and block 30 gets what is in block 31.
	o := must[Object](t)(differ(t.Context(), s, c.Dir(), base, func(f *layer.Fork) error {
		block := func(i int) []byte { return data[i*digest.BlockSize : (i+1)*digest.BlockSize] }
		_, err := f.WriteAt(block(20), 9*digest.BlockSize)
		_, err2 := f.WriteAt(block(31), 30*digest.BlockSize)
		return errors.Join(err, err2)
	}))
	damage := func(o Object, index int64) {
		check(t, os.Chmod(s.objectPath(o), 0o600))
		f := must[*os.File](t)(os.OpenFile(s.objectPath(o), os.O_RDWR, 0))
		must[int](t)(f.WriteAt([]byte("damage"), index*digest.BlockSize))
		check(t, f.Close())
	}
	damage(o, 9)
	damage(base, 31)
	r := must[VerifyReport](t)(s.Verify(t.Context(), true))
	if r.Repaired != 2 || r.Removed != 0 || len(r.Corrupt) != 2 || len(r.Missing) != 0 {
		t.Errorf("repair reports %+v", r)
	}
	sound(t, s)
	if !s.Has(o) || !s.Has(base) || !bytes.Equal(contentOf(t, s, base), data) {
		t.Error("the objects were not mended")
	}
	// The base's block 5 is in no file but the base's, though the table of o lists it.
	damage(base, 5)
	if r := must[VerifyReport](t)(s.Verify(t.Context(), false)); len(r.Corrupt) != 1 || !strings.Contains(r.Corrupt[0].Reason, "no other object has them") {
		t.Errorf("verification says %+v", r)
	}
}
