package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// look exposes the directories that it is given, notes where they are, and
// does what Then says.
type look struct {
	Name string
	Seen *[]string                                   `key:"-"`
	Then func(job *engine.Job, paths []string) error `key:"-"`
}

func (*look) Kind() string { return "look/1" }

func (l *look) Run(ctx context.Context, job *engine.Job) error {
	var paths []string
	for _, role := range []string{"0", "1"} {
		if !job.Has(role) || job.Input(role).Kind() != store.Tree {
			continue
		}
		x, err := job.Expose(ctx, role)
		if err != nil {
			return err
		}
		paths = append(paths, x.Path)
	}
	if l.Seen != nil {
		*l.Seen = append(*l.Seen, paths...)
	}
	if l.Then != nil {
		if err := l.Then(job, paths); err != nil {
			return err
		}
	}
	return os.WriteFile(job.Output(""), nil, 0o600)
}

// sourceTree is a directory with files as a source.
func (b *bench) sourceTree(name string, files map[string]string) (string, engine.Ref) {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			b.t.Fatal(err)
		}
	}
	n, err := engine.NewNode(&engine.TreeSource{Path: dir, Rel: name}, engine.NodeOptions{Label: "//:" + name, Outputs: []engine.Output{{Kind: store.Tree}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return dir, n.Ref("")
}

// scratches lists what is left in the scratch directories of the store.
func (b *bench) scratches() []string {
	b.t.Helper()
	left, err := filepath.Glob(filepath.Join(b.store.Dir(), "scratch", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(path string) bool { return strings.HasPrefix(filepath.Base(path), "store-") }) // its own
}

func TestOneViewServesAllStepsOfABuild(t *testing.T) {
	b := newBench(t)
	files := map[string]string{"a": "1", "d/b": "2"}
	_, one := b.sourceTree("one", files)
	_, two := b.sourceTree("two", files)
	if err := os.Chmod(filepath.Join(b.dir, "two", "a"), 0o600); err != nil { // which does not count
		t.Fatal(err)
	}
	var seen []string
	first := node(t, "//:first", &look{Name: "first", Seen: &seen}, one, two)
	second := node(t, "//:second", &look{Name: "second", Seen: &seen, Then: func(_ *engine.Job, paths []string) error {
		data, err := os.ReadFile(filepath.Join(paths[0], "d/b"))
		if string(data) != "2" {
			err = errors.Join(err, errors.New("the view has other content"))
		}
		return err
	}}, two, first)
	if _, err := b.engine(engine.Config{}).Build(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen[0] != seen[1] || seen[0] != seen[2] || strings.HasPrefix(seen[0], b.dir+"/one") {
		t.Errorf("the steps saw %q", seen)
	}
	if left := b.scratches(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAViewHasTheTimeOfTheBuildAndNothingOfTheHost(t *testing.T) {
	b := newBench(t)
	dir, src := b.sourceTree("src", map[string]string{"a": "1"})
	if err := errors.Join(os.Chmod(filepath.Join(dir, "a"), 0o666), unix.Setxattr(filepath.Join(dir, "a"), "user.x", []byte("y"), 0)); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	var fork string
	step := node(t, "//:step", &look{Then: func(job *engine.Job, paths []string) error {
		fork = filepath.Join(job.Dir(), "fork")
		if err := job.Input("0").Fork(t.Context(), fork); err != nil {
			return err
		}
		for _, path := range append(paths, fork) {
			info, err := os.Stat(filepath.Join(path, "a"))
			if err != nil {
				return err
			}
			n, err := unix.Llistxattr(filepath.Join(path, "a"), nil)
			if err != nil || n > 0 || info.Mode() != 0o644 || !info.ModTime().Equal(at) {
				t.Errorf("%s: %v %v, %d bytes of attributes", path, info.Mode(), info.ModTime(), n)
			}
		}
		return nil
	}}, src)
	if _, err := b.engine(engine.Config{Epoch: at}).Build(t.Context(), step); err != nil {
		t.Fatal(err)
	}
}

// What steps make has the time of the build, so that is in their keys; 1970,
// which it is unless somebody says otherwise, has always been without a word.
func TestTheTimeOfTheBuildIsInTheKey(t *testing.T) {
	b := newBench(t)
	step := node(t, "//:step", &join{Text: "x"})
	for i, c := range []struct {
		at       time.Time
		executed int
	}{{time.Time{}, 1}, {time.Unix(0, 0), 0}, {time.Unix(1_700_000_000, 0), 1}, {time.Unix(1_700_000_001, 0), 1}, {time.Unix(1_700_000_000, 0), 0}} {
		r, err := b.engine(engine.Config{Epoch: c.at}).Build(t.Context(), step)
		if err != nil || r.Executed != c.executed {
			t.Errorf("build %d at %v: %d steps, want %d (%v)", i, c.at, r.Executed, c.executed, err)
		}
	}
}

// A view that is made after its source was edited is not what the key says; one
// that was made before is, whatever happens to the source in between.
func TestAViewIsWhatTheKeySays(t *testing.T) {
	b := newBench(t)
	dir, src := b.sourceTree("src", map[string]string{"a": "one"})
	edit := func(text string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte(text), 0o644) }
	other := b.source(t, "other", "")
	editor := node(t, "//:editor", &look{Name: "editor", Then: func(*engine.Job, []string) error { return edit("two") }}, other, other, src)
	late := node(t, "//:late", &look{Name: "late"}, src, editor)
	_, err := b.engine(engine.Config{Jobs: 1}).Build(t.Context(), late)
	if err == nil || !strings.Contains(err.Error(), dir+" was changed while the step used it: nothing was stored, build again") {
		t.Errorf("a step that begins after the edit: %v", err)
	}
	if left := b.scratches(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	var read string
	early := node(t, "//:early", &look{Name: "early", Then: func(_ *engine.Job, paths []string) error {
		err := edit("two")
		data, rerr := os.ReadFile(filepath.Join(paths[0], "a"))
		read = string(data)
		return errors.Join(err, rerr, edit("one"))
	}}, src)
	if err := edit("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine(engine.Config{}).Build(t.Context(), early); err != nil || read != "one" {
		t.Errorf("a step that sees an edit come and go reads %q, %v", read, err)
	}
}

func TestAFailedStepKeepsItsViews(t *testing.T) {
	b := newBench(t)
	dir, src := b.sourceTree("src", map[string]string{"a": "one"})
	step := node(t, "//:step", &look{Then: func(job *engine.Job, paths []string) error {
		job.Enterable(engine.Sandbox{Spec: container.Spec{Mounts: []container.Mount{{Source: paths[0], Target: "/src", Kind: container.Dir, ReadOnly: true}}}})
		return errors.New("it fails")
	}}, src)
	_, err := b.engine(engine.Config{}).Build(t.Context(), step)
	var failed *engine.StepError
	if !errors.As(err, &failed) || failed.Kept == "" {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s, ok, err := engine.LoadSandbox(failed.Kept)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	data, err := os.ReadFile(filepath.Join(s.Spec.Mounts[0].Source, "a"))
	if err != nil || string(data) != "one" {
		t.Errorf("the shell would see %q, %v", data, err)
	}
	if left := b.scratches(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestACancelEndsTheMakingOfAView(t *testing.T) {
	b := newBench(t)
	_, src := b.sourceTree("src", map[string]string{"a": "one"})
	ctx, cancel := context.WithCancel(t.Context())
	first := node(t, "//:first", &look{Name: "first", Then: func(*engine.Job, []string) error { cancel(); return nil }})
	_, err := b.engine(engine.Config{Jobs: 1}).Build(ctx, node(t, "//:step", &look{}, src, first))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := b.scratches(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAViewThatFindsNoRoomSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("mounting a small file system: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	b := &bench{t: t, store: st, dir: t.TempDir()}
	_, src := b.sourceTree("src", map[string]string{"a": strings.Repeat("x", 4<<20)})
	_, err = b.engine(engine.Config{}).Build(t.Context(), node(t, "//:step", &look{}, src))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "b9 cache gc") {
		t.Error(err)
	}
	if left := b.scratches(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What is asked for without a step, such as by a program that embeds b9, has
// the same view, for as long as it is open.
func TestASourceDirectoryIsExposedAsAView(t *testing.T) {
	b := newBench(t)
	dir, src := b.sourceTree("src", map[string]string{"a": "one"})
	r, err := b.engine(engine.Config{}).Build(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	x, err := r.Artifact(src).Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(x.Path, "a")); err != nil || !info.ModTime().Equal(time.Unix(0, 0)) || x.Path == dir {
		t.Errorf("%s: %v, %v", x.Path, info, err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(x.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// BenchmarkView makes the view of 5,000 files of 2 KiB.
func BenchmarkView(b *testing.B) {
	bn := newBench(b)
	files := map[string]string{}
	for i := range 5000 {
		files[filepath.Join("d"+string(rune('a'+i%26)), "f"+time.Duration(i).String())] = strings.Repeat("x", 2048)
	}
	_, src := bn.sourceTree("src", files)
	e := bn.engine(engine.Config{})
	r, err := e.Build(b.Context(), src)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x, err := r.Artifact(src).Expose(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
