package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/repo/internal/backend"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// The tests of this file hold the format of a repository, as it is described
// in docs/repositories.md, and what a machine keeps of one, to files in
// testdata/golden: what is written must be their bytes, and reading them must
// give what was written. Of zstd frames the content counts, not how it was
// compressed.

// golden compares got with a golden file, and returns what the file has.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	if *update {
		putFile(t, filepath.Join("testdata", "golden", name), got)
	}
	want := slurp(t, filepath.Join("testdata", "golden", name))
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(-update accepts it)", name, shown(got), shown(want))
	}
	return want
}

// shown is text as it is, and other bytes in hexadecimal.
func shown(data []byte) string {
	if bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\n' || r == 0xfffd }) {
		return hex.Dump(data)
	}
	return string(data)
}

func putFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenID is a name with no random part.
func goldenID(n byte) (id fileID) {
	for i := range sumSize {
		id[i] = n + byte(i)
	}
	copy(id[sumSize:], []byte{0xde, 0xad, n, n})
	return id
}

func goldenVersion() Version {
	return Version{
		Name: "web", Version: "20260102-030405-00112233", Digest: Digest{1, 2, 3}, Format: "raw", Size: 1 << 30, Data: 1 << 20,
		FileSystems: []string{"ext4", "swap"}, Key: "b3:key", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Parent: "base@1",
		Origin: Origin{User: "me", Host: "here", Label: "//:web", B9: "1.0", Source: "https://git.example/x", Commit: "0123"},
	}
}

// TestGoldenLog holds a line of each operation.
func TestGoldenLog(t *testing.T) {
	v := goldenVersion()
	lines := []line{
		{Op: opFormat, Format: formatVersion, ID: "00112233445566778899aabbccddeeff"},
		{Op: opImage, Image: &v, Recipe: recipeRef{goldenID(0x10), 300}},
		{Op: opStep, StepKey: "b3:step", Recipe: recipeRef{goldenID(0x20), 200}},
		{Op: opRemove, Removed: goldenID(0x20)},
		{Op: opCollect, Doomed: goldenID(0x30)},
		{Op: opStep, StepKey: "b3:step", Recipe: recipeRef{goldenID(0x40), 100}, Epoch: 1},
	}
	var text []byte
	for _, l := range lines {
		b, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	data := golden(t, "log", text)
	var back []line
	for text := range bytes.FieldsFuncSeq(data, func(r rune) bool { return r == '\n' }) {
		l, ok := decodeLine(text)
		if !ok {
			t.Errorf("torn: %s", text)
		}
		back = append(back, l)
	}
	if !reflect.DeepEqual(back, lines) {
		t.Errorf("read back %+v", back)
	}
	is := newView()
	if err := is.feed(data); err != nil || len(is.images) != 1 || is.steps["b3:step"] == nil || is.steps["b3:step"].Recipe.Length != 100 || is.epoch != 1 || is.torn != 0 {
		t.Errorf("the log says %+v, %v", is, err)
	}
	for _, id := range []fileID{goldenID(0), goldenID(0xf8)} {
		if back, err := parseFileID(id.String()); err != nil || back != id {
			t.Errorf("%s is read back as %s, %v", id, back, err)
		}
	}
}

func goldenManifest() *manifest {
	return &manifest{
		record: []byte("b9 record of a step"),
		packs:  []packRef{{id: goldenID(0x10), data: 900, index: 60, blocks: 30}, {id: goldenID(0x20), data: 5, index: 40, blocks: 2}},
		objects: []content{
			{name: "image", digest: Digest{1, 2}, size: 50*blockSize + 7, runs: []run{{0, 2, 0, 28}, {5, 1, 1, 1}, {6, 3, 0, 0}, {50, 1, 1, 0}}},
			{name: "empty"},
		},
	}
}

// unpacked is what follows the magic, decompressed.
func unpacked(t *testing.T, b []byte, magic string) []byte {
	t.Helper()
	packed, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		t.Fatalf("it begins with %q and not %q", b[:min(len(b), len(magic))], magic)
	}
	dec := newDecoder(1 << 24)
	defer dec.Close()
	raw, err := dec.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestGoldenManifest(t *testing.T) {
	want := goldenManifest()
	got := want.encode()
	golden(t, "manifest-unpacked", unpacked(t, got, manifestMagic))
	if *update {
		putFile(t, "testdata/golden/manifest", got)
	}
	back, err := decodeManifest(slurp(t, "testdata/golden/manifest"))
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// goldenBlocks are two frames of blocks, the second with one block.
func goldenBlocks() (blocks [][]byte) {
	for i := range frameBlocks + 1 {
		blocks = append(blocks, bytes.Repeat([]byte{byte(i), byte(i >> 8), 1, 2}, blockSize/4))
	}
	return blocks
}

// TestGoldenPack holds the index of a pack to its bytes, and reads a whole one.
func TestGoldenPack(t *testing.T) {
	x := &packIndex{frames: []frameRef{{0, 500, 0, frameBlocks}, {500, 20, frameBlocks, 1}}}
	for _, b := range goldenBlocks() {
		x.ids = append(x.ids, idOf(b))
	}
	data := golden(t, "pack-index", x.encode())
	back, err := decodeIndex(data, packRef{data: 520, blocks: frameBlocks + 1})
	if err != nil || !reflect.DeepEqual(back, x) {
		t.Errorf("read back %+v, %v", back, err)
	}
	path := "testdata/golden/pack"
	if *update {
		enc := newEncoder(zstd.SpeedDefault)
		blocks := goldenBlocks()
		first := enc.EncodeAll(bytes.Join(blocks[:frameBlocks], nil), nil)
		last := enc.EncodeAll(blocks[frameBlocks], nil)
		n, m := int64(len(first)), int64(len(last))
		x.frames = []frameRef{{0, n, 0, frameBlocks}, {n, m, frameBlocks, 1}}
		putFile(t, path, append(append(first, last...), x.encode()...))
	}
	pack := slurp(t, path)
	at := bytes.Index(pack, []byte(packMagic))
	back, err = decodeIndex(pack[max(at, 0):], packRef{data: int64(at), blocks: frameBlocks + 1})
	if err != nil {
		t.Fatal(err)
	}
	dec := newDecoder(frameBlocks * blockSize)
	defer dec.Close()
	var raw []byte
	for _, f := range back.frames {
		blocks, err := back.frame(dec, pack[f.off:f.off+f.length], f, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, blocks...)
	}
	if !bytes.Equal(raw, bytes.Join(goldenBlocks(), nil)) {
		t.Error("the blocks of the pack are others")
	}
}

// TestGoldenDoomed holds the list that a collection writes.
func TestGoldenDoomed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "doomed"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &Repo{files: backend.NewDir(dir, nil)}
	want := []fileID{goldenID(1), goldenID(2)}
	l, err := r.writeDoomed(t.Context(), []unusedFile{{id: want[0]}, {path: "tmp/x"}, {id: want[1]}})
	if err != nil {
		t.Fatal(err)
	}
	data := slurp(t, filepath.Join(dir, "doomed", l.Doomed.String()))
	if !l.Doomed.matches(data) {
		t.Errorf("the list is called %s", l.Doomed)
	}
	if back, err := parseDoom(golden(t, "doomed", data)); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %v, %v", back, err)
	}
}

// publishGolden makes a repository in which everything happened once.
func publishGolden(t *testing.T, dir string) {
	t.Helper()
	r, err := Create(t.Context(), Location{Path: dir}, Options{workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), "image")
	push := func(version string, blocks [][]byte) {
		t.Helper()
		image := append(make([]byte, 3*blockSize), bytes.Join(blocks, nil)...)
		putFile(t, path, append(image, "and a piece of a block"...))
		v := goldenVersion()
		s := PushSpec{Path: path, Name: "web", Version: version, Format: "raw", FileSystems: v.FileSystems, Key: v.Key, Origin: v.Origin, Created: v.Created}
		if _, _, err := r.Push(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	blocks := goldenBlocks()
	push("0", blocks[200:])
	push("1", blocks[:8])
	push("2", append(blocks[:7:7], blocks[20:22]...))
	putFile(t, path, []byte("what a step made"))
	if _, err := r.PublishStep(t.Context(), "b3:step", []byte("record"), []StepFile{{Name: "output-0", Path: path}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: -1}); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenRepository reads a repository that an earlier b9 made, and makes
// the same again: but for what is random or compressed the logs are equal.
func TestGoldenRepository(t *testing.T) {
	const kept = "testdata/golden/repository"
	if *update {
		if err := os.RemoveAll(kept); err != nil {
			t.Fatal(err)
		}
		publishGolden(t, kept)
	}
	dir, again := filepath.Join(t.TempDir(), "kept"), filepath.Join(t.TempDir(), "again")
	if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	publishGolden(t, again)
	if got, want := maskedLog(t, again), maskedLog(t, dir); got != want {
		t.Errorf("the log is\n%s\nand was\n%s", got, want)
	}
	var said bytes.Buffer
	r, err := Open(t.Context(), Location{Path: dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := r.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		dst := filepath.Join(t.TempDir(), "image")
		transfer, err := r.Pull(t.Context(), v, dst, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d, _, err := digest.Path(t.Context(), dst, 0)
		if err != nil || d != v.Digest {
			t.Errorf("%s has the content %s, %v", v.Ref(), d, err)
		}
		fmt.Fprintf(&said, "%s\n%d of %d bytes are holes\n", text, transfer.Holes, transfer.Total)
	}
	step, err := r.LookupStep(t.Context(), "b3:step")
	if err != nil || len(step.Objects) != 1 {
		t.Fatalf("the step is %+v, %v", step, err)
	}
	out := filepath.Join(t.TempDir(), "output")
	if _, err := r.Fetch(t.Context(), step.Objects[0], out, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&said, "step %s: record %q, %s %q\n", step.Key, step.Record, step.Objects[0].Name, slurp(t, out))
	golden(t, "repository.txt", said.Bytes())
	if damage, err := r.Check(t.Context(), true); err != nil || len(damage) > 0 {
		t.Errorf("damage %+v, %v", damage, err)
	}
}

var unlike = regexp.MustCompile(`[0-9a-f]{32}-[0-9a-f]{8}|"id":"[0-9a-f]{32}"|"length":[0-9]+`)

// maskedLog is the log without what is random, and without the lengths of
// what is compressed.
func maskedLog(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	for line := range strings.Lines(string(slurp(t, filepath.Join(dir, logName)))) {
		if _, rest, ok := strings.Cut(line, " "); ok {
			line = unlike.ReplaceAllString(rest, "X")
		}
		text.WriteString(line)
	}
	return text.String()
}

// TestGoldenState holds what a machine remembers of a repository: names and
// content of the files in its state directory.
func TestGoldenState(t *testing.T) {
	dir := t.TempDir()
	s := openState(dir, "0123456789abcdef")
	packs := []sentPack{{goldenID(1), 900, 60, 30, 2}, {ID: goldenID(2)}}
	j, _, _ := s.beginPush("web")
	for _, p := range packs {
		j.add(p)
	}
	pushes := namesIn(filepath.Join(s.dir, "pushes"), "push-")
	if len(pushes) != 1 {
		t.Fatalf("journals %v", pushes)
	}
	back := filepath.Join(t.TempDir(), "journal")
	putFile(t, back, golden(t, "journal", slurp(t, pushes[0])))
	if got := readJournal(back); !reflect.DeepEqual(got, packs) {
		t.Errorf("the journal is read back as %+v", got)
	}
	j.end(false)

	known := pulled{Digest{7, 8}, signature{1, 2, 3, -4, 5}}
	text, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	var again pulled
	if err := json.Unmarshal(golden(t, "pulled", text), &again); err != nil || again != known {
		t.Errorf("what was pulled is read back as %+v, %v", again, err)
	}

	log := slurp(t, "testdata/golden/log")
	k := &logCopy{path: filepath.Join(dir, "kept")}
	f, err := os.Create(k.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.write(f, [][]byte{log[:100], log[100:]}, int64(len(log))); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if b, whole := unsealed(golden(t, "kept-log", slurp(t, k.path))); !whole || !bytes.Equal(b, log) {
		t.Error("the copy of the log is read back as another")
	}

	loc := Location{User: "me", Host: "images.example", Path: "/srv/b9"}
	copied, _ := openLogCopy(dir, loc)
	var names bytes.Buffer
	for _, path := range []string{copied.path, pushes[0], s.pulledFile("/images/web.raw"), s.file(goldenID(1))} {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if random := regexp.MustCompile(`^(.*/push-[0-9a-f]{16}-)[0-9]+$`); random.MatchString(rel) {
			rel = random.ReplaceAllString(rel, "${1}RANDOM")
		}
		fmt.Fprintln(&names, rel)
	}
	golden(t, "state", names.Bytes())
}
