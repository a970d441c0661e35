package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// window runs a claim for blocks of which known takes away what has become known.
func (c *claims) ask(ctx context.Context, ids []blockID, known func(packs []sentPack) []blockID) (int, error) {
	return c.window(ctx, func() []blockID { return ids }, func(_ bool, packs []sentPack) error {
		ids = known(packs)
		return nil
	})
}

// names are blocks that stand for themselves.
func names(n, from int) []blockID {
	ids := make([]blockID, n)
	for i := range ids {
		ids[i] = blockID{byte(from + i), byte((from + i) >> 8), 1}
	}
	return ids
}

// TestClaims: who comes second waits for what the first sends, and uses it; who sends
// something else waits for nobody.
func TestClaims(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		first, second, third := newClaims(s.create(t)), newClaims(s.elsewhere(t)), newClaims(s.elsewhere(t))
		ids := names(100, 0)
		keep := func(ids []blockID) func([]sentPack) []blockID {
			return func([]sentPack) []blockID { return ids }
		}
		claim, err := first.ask(t.Context(), ids, keep(ids))
		if err != nil || claim != 1 {
			t.Fatalf("%d, %v", claim, err)
		}
		if claim, err := third.ask(t.Context(), names(100, 1000), keep(names(100, 1000))); err != nil || claim != 1 {
			t.Errorf("something else: %d, %v", claim, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*claimPoll)
		defer cancel()
		if _, err := second.ask(ctx, ids, keep(ids)); err == nil {
			t.Error("the second did not wait")
		}
		p := sentPack{ID: goldenID(1), Data: 1, Index: 1, Blocks: 1}
		first.expect(t.Context(), claim, 1)
		first.arrived(t.Context(), claim, p)
		got := []sentPack(nil)
		claim, err = second.ask(t.Context(), ids, func(packs []sentPack) []blockID { got = append(got, packs...); return nil })
		if err != nil || claim != 0 || len(got) != 1 || got[0] != p {
			t.Errorf("%d, %v, packs %v", claim, err, got)
		}
		first.close()
		third.close()
		second.close()
		if left := files(t, s, "tmp"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// blocked reports whether rivals send these blocks.
func blocked(c *claims, ids []blockID) bool {
	first, later := c.inTheWay(standins(ids))
	return first || later
}

// TestClaimsOfTheDead: a push that died, or writes what nobody would, is waited for no
// longer than claimPatience, by either clock.
func TestClaimsOfTheDead(t *testing.T) {
	t.Parallel()
	s := kinds()[0].make(t)
	r := s.create(t)
	ids := names(100, 0)
	text, err := json.Marshal(claimLine{Claim: 1, Sample: standins(ids)})
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(s.dir, "tmp", claimFile+"-other-1.0123")
	putFile(t, other, append(text, "\nrubbish\n{\"claim\":2,\"sam"...))
	c := newClaims(r)
	none := func(bool, []sentPack) error { return nil }
	if err := c.look(t.Context(), none); err != nil || !blocked(c, ids) {
		t.Errorf("a claim that was just made counts: %v", err)
	}
	for _, v := range c.others {
		v.changed = time.Now().Add(-claimPatience - time.Second)
	}
	if err := c.look(t.Context(), none); err != nil || blocked(c, ids) {
		t.Errorf("one that was never added to counts: %v", err)
	}
	if claim, err := c.ask(t.Context(), ids, func([]sentPack) []blockID { return ids }); err != nil || claim != 1 {
		t.Errorf("%d, %v", claim, err)
	}
	c.close()
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	putFile(t, filepath.Join(s.dir, "tmp", fmt.Sprintf("%s-%s-%d.0123", claimFile, thisMachine(), 1<<30)), append(text, '\n'))
	c = newClaims(r)
	if err := c.look(t.Context(), none); err != nil || blocked(c, ids) {
		t.Errorf("that of a process that is gone counts: %v", err)
	}
}

// TestGoldenClaims holds the lines.
func TestGoldenClaims(t *testing.T) {
	var text []byte
	for _, l := range []claimLine{
		{Claim: 1, Sample: standins(names(2, 0))},
		{Pack: &sentPack{ID: goldenID(0x10), Data: 300, Index: 40, Blocks: 2, Epoch: 1}},
		{Pack: &sentPack{ID: goldenID(0x20), Data: 30, Index: 40, Blocks: 1}, Done: 1},
	} {
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, b...), '\n')
	}
	golden(t, "claims", text)
	v := rival{flying: map[int][]byte{}}
	for _, part := range [][]byte{text[:5], text[5:200], text[200:]} { // as it is read while it is written
		v.take(part)
	}
	if len(v.flying) != 0 || len(v.packs) != 2 || v.packs[1].ID != goldenID(0x20) {
		t.Errorf("read back %+v", v)
	}
}
