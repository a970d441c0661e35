package engine_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/store"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// The tests of this file hold the formats that the engine writes, as
// docs/store.md describes them, to files in testdata/golden: what is written must
// be their bytes, and reading them must give what was written.

// golden compares got with a golden file, and returns what the file has.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(-update accepts it)", path, shown(got), shown(want))
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

// goldenFile is golden for a file, which has the golden bytes afterwards.
func goldenFile(t *testing.T, name, path string, mask ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	masked := strings.NewReplacer(mask...).Replace(string(data))
	if err := os.WriteFile(path, golden(t, name, []byte(masked)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenTrace(t *testing.T) {
	d, other := store.Sum([]byte("one")), store.Sum([]byte("other"))
	want := &engine.Trace{
		Shelves: store.Shelves{0: 1, 16: 0x0123456789abcdef},
		Made:    time.Unix(0, 1_700_000_000_000_000_001), Names: d,
		Listed: []engine.Stamp{{Path: "/src", Sign: "1:40755:2:3:4"}},
		Files:  []string{"B9BUILD.star", "a/B9BUILD.star"},
		Parts: []engine.TracedPart{{
			Name: "a/B9BUILD.star", Needs: []string{"lib.star"}, Options: []string{`who string "you" []`}, Printed: "printed\n", Steps: 300,
			Stamps:  []engine.Stamp{{Path: "/src/a b", Sign: "1:100644:2:3:4"}, {Path: "/gone", Sign: "-"}},
			Sources: []engine.TracedSource{{Kind: "source-file/1", Fields: `{"Path":"/a"}`, Digest: other}},
			Results: []engine.Placed{{
				Label: "//a:b", Output: "/", Path: "/out/a/b", Sign: "3:4", Size: 1 << 40,
				Object: store.Object{Kind: store.Tree, Digest: d, Size: 5}, Stored: true,
			}, {
				Label: "//a:source", Path: "/out/source", Sign: "5:6", Object: store.Object{Kind: store.File, Digest: other},
			}},
		}, {Name: "lib.star"}},
		Tools: []engine.TracedTool{{Tool: engine.Tool{Name: "mke2fs", VersionArgs: []string{"-V"}}, Version: "mke2fs 1\n"}},
		Left:  []engine.Left{{Label: "//a:gone", Path: "/out/a/gone", Why: "gone"}},
	}
	back, err := engine.DecodeTrace(golden(t, "trace", want.Encode()))
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// TestGoldenAction holds an action on its way to another process, with bytes that
// are no UTF-8.
func TestGoldenAction(t *testing.T) {
	want := &engine.TreeSource{Path: "/src/\xff", Rel: "a <&> b", Exclude: []string{"*.o", "\uFFFD"}}
	data, err := engine.EncodeAction(want)
	if err != nil {
		t.Fatal(err)
	}
	table := engine.Actions{want.Kind(): func() engine.Action { return &engine.TreeSource{} }}
	back, err := engine.DecodeAction(table, golden(t, "action", data))
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// TestGoldenPlaced holds .placed as it is while results are placed, and as it
// is afterwards.
func TestGoldenPlaced(t *testing.T) {
	b := newBench(t)
	file := node(t, "//:a", &join{Text: "result"})
	planted, err := engine.NewNode(&plant{"name"}, engine.NodeOptions{Label: "//:t", Outputs: []engine.Output{{Kind: store.Tree}}})
	if err != nil {
		t.Fatal(err)
	}
	tree := planted.Ref("")
	r, err := b.engine(engine.Config{}).Build(t.Context(), file, tree)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(b.dir, "out")
	wanted := []engine.Wanted{
		{Artifact: r.Artifact(file), Path: "sub/a file", Mode: 0o755, Label: "//sub:a file"}, {Artifact: r.Artifact(file), Path: "again"}, {Artifact: r.Artifact(tree), Path: "tree"},
	}
	if err := engine.Claim(t.Context(), out, wanted...); err != nil {
		t.Fatal(err)
	}
	placed := filepath.Join(out, ".placed")
	claimed, err := os.ReadFile(placed)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "placed-claimed", claimed)
	if _, err := engine.Place(t.Context(), engine.Destination{Dir: out}, wanted); err != nil {
		t.Fatal(err)
	}
	sign := engine.SignIn(out, "tree")
	treeDigest := r.Artifact(tree).Digest().String() // has the owner and the time of the machine
	goldenFile(t, "placed", placed, signOf(t, filepath.Join(out, "sub/a file")), "SIGN1", signOf(t, filepath.Join(out, "again")), "SIGN2",
		sign, "SIGN3", treeDigest, store.Sum(nil).String())
	if hash := regexp.MustCompile(`^[0-9a-f]{64}$`); !hash.MatchString(sign) {
		t.Errorf("the sign of a tree is %q", sign)
	}
	for rel, want := range map[string]string{"sub/a file": "SIGN1", "again": "SIGN2", "tree": "SIGN3"} {
		if got := engine.SignIn(out, rel); got != want {
			t.Errorf("the sign of %s is read back as %q", rel, got)
		}
	}
	if known, err := engine.PlacedIn(out); err != nil || known["sub/a file"].Label != "//sub:a file" || known["again"].Label != "" {
		t.Errorf("read back %+v, %v", known, err)
	}
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 3 || err != nil {
		t.Errorf("%d results are known, %v", n, err)
	}
}

// signOf is what stands for the state of a file in .placed and in traces:
// inode, mode in octal, size, and the times of modification and change.
func signOf(t *testing.T, path string) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	sign := fmt.Sprintf("%d:%o:%d:%d:%d", st.Ino, st.Mode, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	if stamp := engine.StampOf(path); stamp.Sign != sign {
		t.Errorf("%s is noted as %q and not %q", path, stamp.Sign, sign)
	}
	return sign
}

// sandboxed fails with a sandbox in which every field has a value.
type sandboxed struct{}

func (*sandboxed) Kind() string { return "sandboxed/1" }

func (*sandboxed) Run(_ context.Context, job *engine.Job) error {
	s := goldenSandbox()
	s.Spec.Mounts[0].Source = job.Output("/")
	job.Enterable(s)
	fmt.Fprintln(job.Log(), "about to fail")
	return errors.Join(os.WriteFile(job.Output("/"), nil, 0o600), os.Mkdir(job.Output("/srv/100%"), 0o700), errors.New("it fails"))
}

func goldenSandbox() engine.Sandbox {
	return engine.Sandbox{Note: "the script is in /.b9/script", Spec: container.Spec{
		ID: "b9-1", Arch: "i686", Hostname: "web", Network: "none", User: "1000:1000", Dir: "/srv",
		Mounts: []container.Mount{
			{Kind: container.Image, Source: "out%2F", Target: "/", Offset: 1 << 20, Length: 1 << 30, FSType: "btrfs", Subvolume: "@"},
			{Kind: container.Dir, Source: "/usr/share", Target: "/share", ReadOnly: true},
			{Kind: container.Tmpfs, Target: "/scratch"},
		},
		Argv: []string{"/bin/sh", "-c", "echo \"<hi>\""}, Env: []string{"LANG=C.UTF-8"}, Capabilities: []string{"SYS_TIME"},
		Memory: 1 << 29, CPUs: 0.5, Timeout: 10 * time.Minute, Grace: 3 * time.Second,
		Empty: []string{"/run", "/tmp"}, EmptyAfterFailure: true,
		ClampSince: time.Unix(1_700_000_000, 0).UTC(), ClampTo: time.Unix(1_000_000_000, 0).UTC(),
		Secrets: []container.Secret{
			{Name: "token", Origin: secret.Origin{Env: "API_TOKEN"}, Value: []byte("never written")},
			{Name: "netrc", Origin: secret.Origin{File: "~/.netrc"}, Value: []byte("never written")},
		},
		SSH: true, Agent: "/never/written", Masked: [][]byte{[]byte("never written")},
	}}
}

// TestGoldenFailed holds what a failed step leaves: the names in its
// directory, and sandbox.json.
func TestGoldenFailed(t *testing.T) {
	spec := goldenSandbox().Spec
	if fields := zeroFields(spec); len(fields) > 0 {
		t.Errorf("goldenSandbox leaves out %s", fields)
	}
	if fields := zeroFields(spec.Mounts...); len(fields) > 0 {
		t.Errorf("the mounts of goldenSandbox leave out %s", fields)
	}
	b := newBench(t)
	n, err := engine.NewNode(&sandboxed{}, engine.NodeOptions{Label: "//:s", Outputs: []engine.Output{{Name: "/", Kind: store.File}, {Name: "/srv/100%", Kind: store.Tree}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.engine(engine.Config{}).Build(t.Context(), n.Ref("/"))
	var failed *engine.StepError
	if !errors.As(err, &failed) || failed.Kept == "" {
		t.Fatalf("error %v keeps nothing", err)
	}
	entries, err := os.ReadDir(failed.Kept)
	if err != nil {
		t.Fatal(err)
	}
	var names bytes.Buffer
	for _, e := range entries {
		fmt.Fprintln(&names, e)
	}
	golden(t, "failed", names.Bytes())
	goldenFile(t, "sandbox.json", filepath.Join(failed.Kept, "sandbox.json"))
	want := goldenSandbox()
	want.Spec.Mounts[0].Source = filepath.Join(failed.Kept, "out%2F")
	want.Spec.Agent, want.Spec.Masked = "", nil // what is secret is not written down
	for i := range want.Spec.Secrets {
		want.Spec.Secrets[i].Value = nil
	}
	back, ok, err := engine.LoadSandbox(failed.Kept)
	if err != nil || !ok || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v, %v, want %+v", back, ok, err, want)
	}
}

// zeroFields names the fields that have a value in none of the structs.
func zeroFields[T any](list ...T) (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		hasValue := func(v T) bool { return !reflect.ValueOf(v).FieldByIndex(f.Index).IsZero() }
		if !slices.ContainsFunc(list, hasValue) {
			names = append(names, f.Name)
		}
	}
	return names
}

// tooled is an action that calls a program of the host.
type tooled struct {
	At string `key:"-"` // its path, "" for what PATH finds
}

func (*tooled) Kind() string { return "tooled/1" }

func (*tooled) Run(_ context.Context, job *engine.Job) error {
	return os.WriteFile(job.Output(""), nil, 0o600)
}

func (a *tooled) Tools() []engine.Tool {
	return []engine.Tool{{Name: cmp.Or(a.At, "golden-tool"), VersionArgs: []string{"--version", "-q"}}}
}

// TestGoldenTools holds tools.json: the versions of the host's programs.
func TestGoldenTools(t *testing.T) {
	b := newBench(t)
	tool := filepath.Join(t.TempDir(), "golden-tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho asked \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 1)
	if err := os.Chtimes(tool, at, at); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(tool)+":"+os.Getenv("PATH"))
	version := func() string {
		t.Helper()
		e := engine.New(engine.Config{Store: b.store})
		if _, err := e.Build(t.Context(), node(t, "//:tooled", &tooled{})); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := b.store.Latest("//:tooled")
		if err != nil || r == nil {
			t.Fatalf("record: %v, %v", r, err)
		}
		i := slices.IndexFunc(r.Parts, func(p store.Part) bool { return p.Name == "tool golden-tool" })
		return r.Parts[i].Value
	}
	if got := version(); got != "asked --version -q" {
		t.Errorf("the version is %q", got)
	}
	// A program that is called by its path has the same key.
	e := engine.New(engine.Config{Store: b.store})
	if r, err := e.Build(t.Context(), node(t, "//:tooled", &tooled{At: tool})); err != nil || r.Cached != 1 {
		t.Errorf("by its path: cached %d, %v", r.Cached, err)
	}
	table := filepath.Join(b.store.Dir(), "tools.json")
	goldenFile(t, "tools.json", table, tool, "/PATH/golden-tool")
	// What the table says is believed: the tool is not asked again.
	data, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.NewReplacer("/PATH/golden-tool", tool, "asked", "remembered").Replace(string(data))
	if err := os.WriteFile(table, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := version(); got != "remembered --version -q" {
		t.Errorf("with a table that knows the version it is %q", got)
	}
}

// published is a cache that has nothing, and notes what it is given.
type published struct {
	record []byte
	files  []engine.CachedFile
}

func (*published) Lookup(context.Context, store.Digest) ([]byte, bool) { return nil, false }

func (*published) Fetch(context.Context, store.Digest, string) bool { return false }

func (p *published) Publish(_ context.Context, _ store.Digest, record []byte, files []engine.CachedFile) {
	p.record, p.files = record, files
}

// both makes a file and a tree.
type both struct{}

func (*both) Kind() string { return "both/1" }

func (*both) Run(_ context.Context, job *engine.Job) error {
	return errors.Join(os.WriteFile(job.Output("file"), []byte("x"), 0o600), os.Mkdir(job.Output("tree"), 0o755))
}

// TestGoldenPublished holds what a step is in the cache of other machines: the
// names of its files, and a record that does not tell the workspace.
func TestGoldenPublished(t *testing.T) {
	b := newBench(t)
	cache := &published{}
	n, err := engine.NewNode(&both{}, engine.NodeOptions{Label: "//:both", Outputs: []engine.Output{{Name: "tree", Kind: store.Tree}, {Name: "file", Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine(engine.Config{Cache: cache, Workspace: "/src/ws"}).Build(t.Context(), n.Ref("tree")); err != nil {
		t.Fatal(err)
	}
	mine, err := b.store.Latest("//:both in /src/ws")
	if err != nil || mine == nil {
		t.Fatalf("record: %v, %v", mine, err)
	}
	given, err := store.DecodeRecord(mine.Key, cache.record)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "label %s\n", given.Label)
	for i, out := range given.Outputs {
		fmt.Fprintf(&text, "output %d %s %s\n", i, out.Name, out.Object.Kind)
	}
	for _, f := range cache.files {
		fmt.Fprintf(&text, "file %s, digest known: %v\n", f.Name, !f.Digest.IsZero())
	}
	golden(t, "published", text.Bytes())
}
