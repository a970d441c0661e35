package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// interrupted pushes image until two packs of it are there.
func interrupted(t *testing.T, s site, r *Repo, image string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := len(files(t, s, "packs"))
	done := make(chan error, 1)
	go func() {
		_, _, err := r.Push(ctx, PushSpec{Name: "web", Path: image})
		done <- err
	}()
	for len(files(t, s, "packs")) < before+2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("the push was not interrupted: %v", err)
	}
}

// TestResumesAfterOthers publishes something else between an interrupted push
// and its repetition: what was sent is not forgotten for it.
func TestResumesAfterOthers(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := noise(t, 1, 160<<20)
		interrupted(t, s, r, image)
		small := sample(t, 2, 20)
		push(t, r, "db", small)
		push(t, r, "db", small) // nothing to send
		for range 2 {           // the second time it is there
			if _, err := r.PublishStep(t.Context(), "key", nil, []StepFile{{Name: "root", Path: small}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, tr := push(t, s.again(t), "web", image); tr.Reused < 32<<20 || tr.New > 130<<20 {
			t.Errorf("what was sent before was sent again: %+v", tr)
		}
		if left := journals(t, r); len(left) > 0 {
			t.Errorf("left when all is published: %v", left)
		}
		intact(t, r)
	})
}

// TestForgetsWhatIsGone collects what an interrupted push had sent, and lets
// many others be interrupted.
func TestForgetsWhatIsGone(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := noise(t, 1, 160<<20)
		interrupted(t, s, r, image)
		if _, err := s.elsewhere(t).Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); err != nil {
			t.Fatal(err)
		}
		push(t, r, "db", sample(t, 2, 20))
		left := journals(t, r)
		if len(left) != 1 {
			t.Fatalf("left of the interrupted push: %v", left)
		}
		for n := range journalsMost {
			if err := os.WriteFile(fmt.Sprint(left[0], n), slurp(t, left[0]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		push(t, r, "db", sample(t, 3, 20))
		if now := journals(t, r); len(now) != journalsMost || slices.Contains(now, left[0]) {
			t.Errorf("left: %d, %v", len(now), now)
		}
		push(t, r, "web", image)
		if left := journals(t, r); len(left) > 0 {
			t.Errorf("left when all is published: %v", left)
		}
		intact(t, r)
	})
}

// again opens the repository with the state that there is.
func (s site) again(t *testing.T) *Repo {
	t.Helper()
	r, err := Open(t.Context(), s.loc, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func journals(t *testing.T, r *Repo) []string {
	t.Helper()
	return files(t, site{dir: r.state.dir}, "pushes")
}

// FuzzJournal reads what a crash or another program has left in a journal.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"ID":"0102030405060708090a0b0c0d0e0f10-dead0101","Data":900,"Index":60,"Blocks":3,"Epoch":1}` + "\n{\"ID\":\"01"))
	f.Add([]byte(`{"ID":"0102030405060708090a0b0c0d0e0f10-dead0101","Data":-1,"Index":60,"Blocks":3,"Epoch":-1}` + "\n\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range parseJournal(b) {
			if r := p.ref(); r.data < 0 || r.index < 0 || r.blocks < 0 || r.blocks > packBlocks || p.Epoch < 0 {
				t.Fatalf("%q gives the pack %+v", b, p)
			}
			var again bytes.Buffer
			if err := json.NewEncoder(&again).Encode(p); err != nil {
				t.Fatal(err)
			}
			if packs := parseJournal(again.Bytes()); len(packs) != 1 || packs[0] != p {
				t.Fatalf("%+v is written and read as %+v", p, packs)
			}
		}
	})
}
