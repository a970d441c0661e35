package repo

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostile is what somebody put into a repository to harm those who pull.
type hostile struct {
	make func(t *testing.T, s site, r *Repo)
	says []string // regular expressions
}

// forge publishes the content as it is, whatever it claims.
func forge(t *testing.T, s site, r *Repo, m *manifest) {
	t.Helper()
	b := m.encode()
	ref := recipeRef{newFileID(b), int64(len(b))}
	if err := os.WriteFile(filepath.Join(s.dir, ref.path()), b, 0o644); err != nil {
		t.Fatal(err)
	}
	claim(t, r, ref)
}

// claim publishes a version with a manifest.
func claim(t *testing.T, r *Repo, ref recipeRef) {
	t.Helper()
	v := Version{Name: "web", Version: "1"}
	if err := r.appendLog(t.Context(), line{Op: opImage, Image: &v, Recipe: ref}); err != nil {
		t.Fatal(err)
	}
}

// fullPack puts a pack of as many blocks as there may be into the repository.
func fullPack(t *testing.T, s site) packRef {
	t.Helper()
	x := &packIndex{ids: make([]blockID, packBlocks)}
	for range packBlocks {
		x.frames = append(x.frames, frameRef{length: 1, blocks: 1})
	}
	index := x.encode()
	p := packRef{id: newFileID(index), data: packBlocks, index: int64(len(index)), blocks: packBlocks}
	if err := os.WriteFile(filepath.Join(s.dir, p.path()), append(make([]byte, packBlocks), index...), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// swelling is a frame of zeros that is small, and large when it is unpacked:
// so many bytes, in one frame of zstd or in many.
func swelling(t *testing.T, size int, frames int) []byte {
	t.Helper()
	enc := newEncoder(dense)
	defer enc.Close()
	one := enc.EncodeAll(make([]byte, size/frames), nil)
	return bytes.Repeat(one, frames)
}

// packOf puts a pack into the repository that holds frame as it is, and
// returns a manifest of its blocks.
func packOf(t *testing.T, s site, frame []byte) *manifest {
	t.Helper()
	x := &packIndex{ids: make([]blockID, frameBlocks), frames: []frameRef{{length: int64(len(frame)), blocks: frameBlocks}}}
	for i := range x.ids {
		x.ids[i][0] = 1
	}
	index := x.encode()
	p := packRef{id: newFileID(index), data: int64(len(frame)), index: int64(len(index)), blocks: frameBlocks}
	if err := os.WriteFile(filepath.Join(s.dir, p.path()), append(frame, index...), 0o644); err != nil {
		t.Fatal(err)
	}
	return &manifest{packs: []packRef{p}, objects: []content{{size: frameBlocks * blockSize, runs: []run{{0, frameBlocks, 0, 0}}}}}
}

// long makes a file of a repository so long, with a hole.
func long(t *testing.T, s site, name string, size int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// flood appends as many lines as text gives to the log.
func flood(t *testing.T, s site, n int, text func(n int) string) {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		text := []byte(text(i))
		fmt.Fprintf(&b, "%s %s\n", checksum(text), text)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, logName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

func hostiles() map[string]hostile {
	const tera = 1 << 40
	ref := func(n int) string {
		return fmt.Sprintf(`{"id":"%032x-%08x","length":1}`, n, n)
	}
	return map[string]hostile{
		"log of terabytes": {func(t *testing.T, s site, _ *Repo) { long(t, s, logName, tera) }, []string{logName, "a line has more than"}},
		"log of millions of versions": {func(t *testing.T, s site, _ *Repo) {
			flood(t, s, maxImages+1, func(n int) string {
				return fmt.Sprintf(`{"op":"image","image":{"name":"a","version":"%d"},"manifest":%s}`, n, ref(n))
			})
		}, []string{logName, "65536 versions"}},
		"log of millions of steps": {func(t *testing.T, s site, _ *Repo) {
			flood(t, s, maxSteps+1, func(n int) string { return fmt.Sprintf(`{"op":"step","step":"%d","manifest":%s}`, n, ref(n)) })
		}, []string{logName, "262144 steps"}},
		"log of nothing": {func(t *testing.T, s site, _ *Repo) {
			flood(t, s, 1, func(int) string { return strings.Repeat(strings.Repeat(" ", 1000)+"\n", 70_000) })
		}, []string{logName, "longer than 67108864 bytes"}},
		"manifest of gigabytes": {func(t *testing.T, s site, r *Repo) {
			id := newFileID(nil)
			long(t, s, "manifests/"+id.String(), 100<<30)
			claim(t, r, recipeRef{id, 100 << 30})
		}, []string{"manifests/", "its length would be 107374182400"}},
		"manifest that swells": {func(t *testing.T, s site, r *Repo) {
			enc := newEncoder(dense)
			defer enc.Close()
			b := enc.EncodeAll(make([]byte, 4*maxManifest), []byte(manifestMagic))
			ref := recipeRef{newFileID(b), int64(len(b))}
			if err := os.WriteFile(filepath.Join(s.dir, ref.path()), b, 0o644); err != nil {
				t.Fatal(err)
			}
			claim(t, r, ref)
		}, []string{"manifests/"}},
		"frame that swells": {func(t *testing.T, s site, r *Repo) {
			forge(t, s, r, packOf(t, s, swelling(t, 512<<20, 1)))
		}, []string{"packs/", "frame at 0"}},
		"frames that swell": {func(t *testing.T, s site, r *Repo) {
			forge(t, s, r, packOf(t, s, swelling(t, 2<<30, 4096)))
		}, []string{"packs/", "frame at 0"}},
		"image of terabytes from one pack": {func(t *testing.T, s site, r *Repo) {
			m := &manifest{packs: []packRef{fullPack(t, s)}, objects: []content{{size: 7 * tera}}}
			for at := int64(0); at+packBlocks <= 7*tera/blockSize; at += packBlocks {
				m.objects[0].runs = append(m.objects[0].runs, run{at, packBlocks, 0, 0})
			}
			forge(t, s, r, m)
		}, []string{"pulled", "it takes", "MiB more"}},
		"as many packs as there may be": {func(t *testing.T, s site, r *Repo) {
			p := fullPack(t, s)
			m := &manifest{objects: []content{{size: maxPacks * blockSize}}}
			for n := range maxPacks {
				m.packs = append(m.packs, p)
				m.objects[0].runs = append(m.objects[0].runs, run{int64(n), 1, n, 0})
			}
			forge(t, s, r, m)
		}, []string{"packs/", "frame at 0"}},
		"as many pieces as there may be": {func(t *testing.T, s site, r *Repo) {
			m := &manifest{packs: []packRef{fullPack(t, s)}, objects: []content{{size: 2 * maxRuns * blockSize}}}
			for n := range maxRuns {
				m.objects[0].runs = append(m.objects[0].runs, run{int64(2 * n), 1, 0, n % packBlocks})
			}
			forge(t, s, r, m)
		}, []string{"packs/.*frame at 0|MiB more"}}, // 8 GiB may be too much
		"too many pieces": {func(t *testing.T, s site, r *Repo) {
			m := &manifest{packs: []packRef{{blocks: 1}}, objects: []content{{size: 4 * maxRuns * blockSize}}}
			for n := range maxRuns + 1 {
				m.objects[0].runs = append(m.objects[0].runs, run{int64(2 * n), 1, 0, 0})
			}
			forge(t, s, r, m)
		}, []string{"manifests/", "out of range"}},
	}
}

// TestHostile pulls, in a process of its own, from repositories that claim
// more than a machine can hold.
func TestHostile(t *testing.T) {
	t.Parallel()
	const mostKiB = raceFactor * (256 << 10)
	for name, h := range hostiles() {
		t.Run(name, func(t *testing.T) {
			s := kinds()[1].make(t)
			r := s.create(t)
			defer r.Close()
			h.make(t, s, r)
			e := errandFor(s)
			e.Opts.State = t.TempDir()
			e.Pull = filepath.Join(t.TempDir(), "pulled")
			out, err := e.command(t).CombinedOutput()
			if err == nil {
				t.Fatalf("it was pulled: %s", out)
			}
			for _, want := range h.says {
				if !regexp.MustCompile(want).Match(out) {
					t.Errorf("the error lacks %q: %s", want, out)
				}
			}
			var peak int // KiB
			if _, text, _ := bytes.Cut(out, []byte("VmHWM:")); len(text) > 0 {
				fmt.Sscan(string(text), &peak)
			}
			if peak == 0 || peak > mostKiB {
				t.Errorf("it used %d KiB, and %d are the most: %s", peak, mostKiB, out)
			}
			t.Logf("%d MiB", peak>>10)
		})
	}
}
