package b9_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// TestGoldenKeys holds the key of every kind of action, and the parts that it
// is made of, to testdata/golden/keys.txt. The steps are those of the workspace
// in keys.txtar. A change here makes every user's cache useless for the kinds
// concerned: it belongs with a raised number in their Kind.
func TestGoldenKeys(t *testing.T) {
	fixTools(t)
	k := newKeyTable(t, unpackWorkspace(t, filepath.Join("testdata", "golden", "keys.txtar")))
	steps := k.steps("//...")
	excluding, err := engine.NewNode(
		&engine.TreeSource{Path: filepath.Join(k.root, "conf"), Rel: "conf", Exclude: []string{"b.cfg", "*.old"}},
		engine.NodeOptions{Label: "//:conf (excluding)", Builtin: "source", Outputs: []engine.Output{{Kind: store.Tree}}})
	if err != nil {
		t.Fatal(err)
	}
	k.add(append(steps, excluding)...)
	golden(t, "keys.txt", k.text("a step of every kind of action"))

	var shown []string
	for _, e := range k.entries {
		shown = append(shown, e.node.Action().Kind())
	}
	slices.Sort(shown)
	shown = slices.Compact(shown)
	kinds := append(slices.Collect(maps.Keys(builtins.Actions())), (&engine.FileSource{}).Kind(), (&engine.TreeSource{}).Kind())
	// The state of an archive has no key without the archive, and that of a secret is
	// another one in every store, and so is what is signed with one.
	kinds = slices.DeleteFunc(kinds, func(kind string) bool {
		return kind == "archive-state/1" || kind == "secret/1" || kind == "sign_efi/1"
	})
	slices.Sort(kinds)
	if !slices.Equal(shown, kinds) {
		t.Errorf("the table has the kinds\n%s\nand there are\n%s\nadd a call to testdata/golden/keys.txtar", shown, kinds)
	}
}

// TestGoldenKeysAreTheRecords runs those of the steps that need nothing but
// the files there are, and finds the same keys and parts in their records.
func TestGoldenKeysAreTheRecords(t *testing.T) {
	fixTools(t)
	k := newKeyTable(t, unpackWorkspace(t, filepath.Join("testdata", "golden", "keys.txtar")))
	k.add(k.steps("//...")...)
	for _, label := range []string{
		"//:convert", "//:digests (digest)", "//:digests (size)", "//:disk", "//:erlang_config", "//:file", "//:file_src",
		"//:image_none", "//:merge_yaml", "//:overlay_beside", "//:published",
	} {
		i := slices.IndexFunc(k.entries, func(e keyEntry) bool { return e.node.Label() == label })
		if i < 0 || k.entries[i].key.IsZero() {
			t.Errorf("no key of %s", label)
			continue
		}
		e := k.entries[i]
		if key, parts := k.record(e.node); key != e.key || !slices.Equal(parts, e.parts) {
			t.Errorf("%s: the record has the key %s of %q, and not %s of %q", label, key, parts, e.key, e.parts)
		}
	}
}

// fixTools puts programs that know nothing but a version in place of those of
// the host, so that keys do not depend on the machine.
func fixTools(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mke2fs", "resize2fs", "e2fsck", "mkfs.erofs", "mkfs.f2fs", "sload.f2fs", "mkfs.xfs", "mmdebstrap", "apt-get", "dpkg", "qemu-system-x86_64"} {
		script := fmt.Sprintf("#!/bin/sh\necho golden %s 1.2.3 called with \"$*\"\n", name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// answerForApt notes versions of apt-get and dpkg in the store's list of answers,
// since bootstrap asks those of the machine, whatever PATH says.
func answerForApt(t *testing.T, st *store.Store) {
	t.Helper()
	known := map[string]string{}
	for _, name := range []string{"apt-get", "dpkg"} {
		path := filepath.Join("/usr/bin", name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		known[fmt.Sprintf("%s %d %d --version", path, info.Size(), info.ModTime().UnixNano())] = fmt.Sprintf("golden %s 1.2.3 called with --version", name)
	}
	data, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(st.Dir(), "tools.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// unpackWorkspace makes a workspace of a txtar file.
func unpackWorkspace(t *testing.T, archive string) string {
	t.Helper()
	ar, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range ar.Files {
		writeFile(t, filepath.Join(root, f.Name), f.Data)
	}
	return root
}

// writeFile writes a file with the same mode under every umask: modes count.
func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(path), 0o755),
		os.WriteFile(path, data, 0o644), os.Chmod(path, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// copyFiles copies the files below a directory.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(from), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		writeFile(t, filepath.Join(to, name), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keyTable finds out keys without running anything: every step that is added
// counts as done from then on, with made-up outputs.
type keyTable struct {
	t       *testing.T
	root    string
	store   *store.Store
	shared  *share.Images
	engine  *engine.Engine
	asked   *keyListener
	entries []keyEntry

	file, tree store.Object // made-up outputs
}

// keyEntry is a step. The key is zero if it is read in place and so has none, or
// if it is that of an earlier step.
type keyEntry struct {
	node  *engine.Node
	key   store.Digest
	parts []store.Part
}

// keyListener is a cache that has nothing and remembers what was asked for.
type keyListener struct{ key store.Digest }

func (l *keyListener) Lookup(_ context.Context, key store.Digest) ([]byte, bool) {
	l.key = key
	return nil, false
}

func (l *keyListener) Fetch(context.Context, store.Digest, string) bool { return false }

func (l *keyListener) Publish(context.Context, store.Digest, []byte, []engine.CachedFile) {}

func newKeyTable(t *testing.T, root string) *keyTable {
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	k := &keyTable{t: t, root: root, store: st, asked: &keyListener{}}
	k.shared = share.NewImages(share.Config{
		Local: func() (*share.LocalImages, error) { return share.OpenLocal(st) },
	}, root)
	answerForApt(t, st)
	k.engine = engine.New(engine.Config{Store: st, Cache: k.asked, Services: []any{k.shared}})
	made := t.TempDir()
	writeFile(t, filepath.Join(made, "tree", "file"), []byte("what a step made\n"))
	k.tree, k.file = k.imported(filepath.Join(made, "tree")), k.imported(filepath.Join(made, "tree", "file"))
	return k
}

func (k *keyTable) imported(path string) store.Object {
	k.t.Helper()
	o, err := k.store.Import(k.t.Context(), path)
	if err != nil {
		k.t.Fatal(err)
	}
	return o
}

// steps evaluates the workspace and returns the nodes that the patterns need,
// inputs before what uses them and else by their place in the build files.
func (k *keyTable) steps(patterns ...string) []*engine.Node {
	k.t.Helper()
	w, err := lang.Open(k.t.Context(), lang.Config{Root: k.root, Dir: k.root, Operations: builtins.Operations(builtins.Settings{Shared: k.shared})})
	if err != nil {
		k.t.Fatal(err)
	}
	g, err := w.Resolve(k.t.Context(), patterns)
	if err != nil {
		k.t.Fatal(err)
	}
	slices.SortStableFunc(g.Targets, func(a, b *lang.Target) int { return strings.Compare(a.Title, b.Title) })
	var refs []engine.Ref
	for _, target := range g.Targets {
		refs = append(refs, target.Refs...)
	}
	return engine.Reachable(refs...)
}

func (k *keyTable) add(nodes ...*engine.Node) {
	k.t.Helper()
	for _, n := range nodes {
		k.entries = append(k.entries, k.entry(n))
	}
}

// entry explains why a step would run whose last run is known to have had a
// key with no parts: every part is a change then. The key is what the cache is
// asked for; a step that no cache may have is run.
func (k *keyTable) entry(n *engine.Node) keyEntry {
	k.t.Helper()
	e := keyEntry{node: n}
	k.commit(&store.Record{Key: store.Sum([]byte("before " + n.Label())), Label: n.Label()})
	k.asked.key = store.Digest{}
	reasons, err := k.engine.Explain(k.t.Context(), n.Ref(n.Outputs()[0].Name))
	if err != nil {
		k.t.Fatal(err)
	}
	r := reasons[len(reasons)-1]
	if r.Node != n || len(r.Changes) == 0 && r.Runs {
		k.t.Fatalf("%s is explained by %+v", n.Label(), r)
	}
	if !r.Runs {
		return e
	}
	for _, c := range r.Changes {
		e.parts = append(e.parts, store.Part{Name: c.Part, Value: c.New})
	}
	if e.key = k.asked.key; e.key.IsZero() {
		e.key, e.parts = k.record(n)
		return e
	}
	done := &store.Record{Key: e.key, Label: n.Label(), Kind: n.Action().Kind()}
	for _, out := range n.Outputs() {
		o := k.file
		if out.Kind == store.Tree {
			o = k.tree
		}
		done.Outputs = append(done.Outputs, store.Output{Name: out.Name, Object: o})
	}
	k.commit(done)
	return e
}

func (k *keyTable) commit(r *store.Record) {
	k.t.Helper()
	if err := k.store.Commit(r); err != nil {
		k.t.Fatal(err)
	}
}

// record runs the step with the label of n in a store of its own and returns
// key and parts of its record there.
func (k *keyTable) record(n *engine.Node) (store.Digest, []store.Part) {
	k.t.Helper()
	fresh := newKeyTable(k.t, k.root)
	steps := fresh.steps("//...")
	i := slices.IndexFunc(steps, func(s *engine.Node) bool { return s.Label() == n.Label() })
	if _, err := fresh.engine.Build(k.t.Context(), steps[i].Ref(n.Outputs()[0].Name)); err != nil {
		k.t.Fatal(err)
	}
	r, err := fresh.store.Latest(n.Label())
	if err != nil || r == nil {
		k.t.Fatalf("record of %s: %v, %v", n.Label(), r, err)
	}
	return r.Key, r.Parts
}

// text is the table. What is not the same on every machine and at any time is
// replaced by a word that says so.
func (k *keyTable) text(what string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Keys and their parts: %s.\n# go test -run TestGolden -update . writes this file.\n", what)
	for _, e := range k.entries {
		fmt.Fprintf(&b, "\n%s %s\n", e.node.Action().Kind(), e.node.Label())
		if e.key.IsZero() {
			fmt.Fprintf(&b, "\t%s\n", e.why())
			continue
		}
		fmt.Fprintf(&b, "\tkey: %s\n", e.key)
		for _, p := range e.parts {
			fmt.Fprintf(&b, "\t%s: %s\n", p.Name, strconv.Quote(p.Value))
		}
	}
	return b.Bytes()
}

// why says why the step has no key of its own.
func (e keyEntry) why() string {
	if located, ok := e.node.Action().(engine.Located); ok {
		if path, _ := located.Locate(); path != "" {
			return "no key: it is read in place, and counts by its content"
		}
	}
	return "the key of a step above"
}

// TestGoldenKeysOfExamples holds the keys of the examples that install a
// Debian, which are too slow to be built each time. They are pinned to a time
// here, so that no archive is asked for its state.
func TestGoldenKeysOfExamples(t *testing.T) {
	fixTools(t)
	root := t.TempDir()
	copyFiles(t, "examples", filepath.Join(root, "examples"))
	writeFile(t, filepath.Join(root, lang.RootFile), nil)
	k := newKeyTable(t, root)
	for _, name := range []string{"debian.star", "hello32.star", "machine.star"} {
		path := filepath.Join(root, "examples", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const pin = `(
    mirror = "deb [trusted=yes] http://snapshot.invalid/archive/debian bookworm main",
    snapshot = "20261101T000000Z",
`
		pinned := strings.NewReplacer("bootstrap(\n", "bootstrap"+pin, "debian_machine(\n", "debian_machine"+pin).Replace(string(text))
		if pinned == string(text) {
			t.Fatalf("%s installs no Debian", name)
		}
		writeFile(t, path, []byte(pinned))
		k.add(k.steps("examples/" + name)...)
	}
	golden(t, "examples_keys.txt", k.text("the examples that install a Debian, pinned"))
}
