package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

func place(t *testing.T, dir string, a *engine.Artifact, rel string) string {
	t.Helper()
	r, err := engine.Place(t.Context(), engine.Destination{Dir: dir}, []engine.Wanted{{Artifact: a, Path: rel}})
	if err != nil {
		t.Fatal(err)
	}
	return r[0].Path
}

func inode(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestPlaceLeavesWhatIsThereAndMendsWhatWasChanged(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	path := place(t, out, a, "sub/a.txt")
	first := inode(t, path)
	if place(t, out, a, "sub/a.txt"); !os.SameFile(first, inode(t, path)) {
		t.Error("an unchanged result was placed again")
	}
	if err := os.WriteFile(path, []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	place(t, out, a, "sub/a.txt")
	if data, err := os.ReadFile(path); err != nil || string(data) != "result" {
		t.Errorf("after an edit: %q, %v", data, err)
	}
	if mode := inode(t, path).Mode(); mode != 0o644 {
		t.Errorf("mode %v, want 0644", mode)
	}
	left, err := filepath.Glob(filepath.Join(out, ".b9-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v %v", left, err)
	}
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 1 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if _, err := os.Lstat(out); !os.IsNotExist(err) {
		t.Errorf("the emptied directory: %v", err)
	}
}

// plant makes a tree with one file.
type plant struct{ Name string }

func (p *plant) Kind() string { return "plant/1" }

func (p *plant) Run(_ context.Context, job *engine.Job) error {
	if err := os.Mkdir(job.Output(""), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(job.Output(""), p.Name), []byte(p.Name), 0o600)
}

func TestPlaceTreeReplacesTheOldOne(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.dir, "out")
	for _, name := range []string{"old", "new"} {
		n, err := engine.NewNode(&plant{name}, engine.NodeOptions{Label: "//:t", Outputs: []engine.Output{{Kind: store.Tree}}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.engine(engine.Config{}).Build(context.Background(), n.Ref(""))
		if err != nil {
			t.Fatal(err)
		}
		dir := place(t, out, r.Artifact(n.Ref("")), "t")
		first := inode(t, dir)
		if place(t, out, r.Artifact(n.Ref("")), "t"); !os.SameFile(first, inode(t, dir)) {
			t.Error("an unchanged tree was placed again")
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		place(t, out, r.Artifact(n.Ref("")), "t")
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("placed %v (%v), want only %s", entries, err, name)
		}
	}
}

func TestPlaceStaysBeneathItsDirectory(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	for _, rel := range []string{"../a", "/a", "x/../../a"} {
		if _, err := engine.Place(t.Context(), engine.Destination{Dir: b.dir}, []engine.Wanted{{Artifact: a, Path: rel}}); err == nil {
			t.Errorf("%q was placed", rel)
		}
	}
}

func TestPlacerClearsAwayWhatDeadOnesLeft(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	dead := filepath.Join(out, ".b9-staging-123", "half")
	if err := os.MkdirAll(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	place(t, out, a, "two")
	if left, err := filepath.Glob(filepath.Join(out, ".b9-*")); err != nil || len(left) != 0 {
		t.Errorf("staging directories %v are left (%v)", left, err)
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	place(t, out, a, "sub/a")
	mine := filepath.Join(out, "sub", "mine")
	if err := os.WriteFile(mine, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Place(t.Context(), engine.Destination{Dir: out}, []engine.Wanted{{Artifact: a, Path: "sub/mine"}}); err == nil {
		t.Error("a file of the user's was replaced")
	}
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 1 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if data, err := os.ReadFile(mine); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}

// What a killed build had placed without writing it down is b9's, wherever it was
// killed, and what it claimed in vain is nobody's.
func TestPlacedByAKilledBuild(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	wanted := engine.Wanted{Artifact: a, Path: "sub/a"}
	for _, die := range []func() error{
		func() error { return engine.Claim(t.Context(), out, wanted) },
		func() error { return engine.PlaceAndDie(t.Context(), out, wanted) },
	} {
		if err := die(); err != nil {
			t.Fatal(err)
		}
		if sign := engine.SignIn(out, "sub/a"); sign != "-" {
			t.Errorf("a build that died knows the state of its result: %q", sign)
		}
		path := place(t, out, a, "sub/a")
		if data, err := os.ReadFile(path); err != nil || string(data) != "result" {
			t.Errorf("%q, %v", data, err)
		}
		if n, err := engine.RemoveResults(t.Context(), out, nil); n != 1 || err != nil {
			t.Errorf("removed %d results, %v", n, err)
		}
	}
}

// A power cut leaves other bytes under the size and the time of a result whose
// state was written down before its content was on the disk. The order of the
// calls that flush is what prevents it.
func TestWhatIsKnownOfAResultIsWrittenAfterIt(t *testing.T) {
	for _, c := range []struct {
		others int  // results beside the one
		dir    bool // is there
		want   []string
	}{
		// A few don't wait for what others wrote to the file system.
		{0, true, []string{"fsync", "rename .placed", "fsync", "fsync", "rename result", "fsync", "rename .placed", "fsync"}},
		{16, true, []string{"fsync", "rename .placed", "syncfs", "rename result", "fsync", "rename .placed", "syncfs"}},
		{0, false, []string{"fsync", "rename .placed", "syncfs", "rename result", "fsync", "rename .placed", "syncfs"}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		if c.dir {
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		calls := tracedCalls(t, func(traced string) {
			cmd := exec.Command("strace", "-f", "-o", traced, "-e", "trace=syncfs,fsync,rename,renameat,renameat2", os.Args[0], "-test.run=TestPlaceForTracing$")
			cmd.Env = append(os.Environ(), "B9_PLACE_IN="+out, fmt.Sprint("B9_PLACE_OTHERS=", c.others))
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
		})
		if !slices.Equal(calls, c.want) {
			t.Errorf("with %d others the calls are\n%q, want\n%q", c.others, calls, c.want)
		}
	}
}

// TestPlaceForTracing is the process that TestWhatIsKnownOfAResultIsWrittenAfterIt
// looks at.
func TestPlaceForTracing(t *testing.T) {
	out := os.Getenv("B9_PLACE_IN")
	if out == "" {
		return // another test runs it
	}
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	artifact := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	wanted := []engine.Wanted{{Artifact: artifact, Path: "result"}}
	others, err := strconv.Atoi(os.Getenv("B9_PLACE_OTHERS"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range others {
		wanted = append(wanted, engine.Wanted{Artifact: artifact, Path: fmt.Sprint("other", i)})
	}
	if _, err := engine.Place(context.Background(), engine.Destination{Dir: out}, wanted); err != nil {
		t.Fatal(err)
	}
}

// tracedCalls are the calls of Place, of those that run makes a process write down.
func tracedCalls(t *testing.T, run func(traced string)) []string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace (Debian package strace)")
	}
	traced := filepath.Join(t.TempDir(), "calls")
	run(traced)
	text, err := os.ReadFile(traced)
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(line, " ")
		name, args, _ := strings.Cut(strings.TrimSpace(call), "(")
		switch {
		case strings.Contains(args, "/.placed\""):
			calls = append(calls, "rename .placed")
		case strings.Contains(args, `"result"`):
			calls = append(calls, "rename result")
		case name == "fsync" || name == "syncfs":
			calls = append(calls, name)
		}
	}
	// What comes before belongs to the store.
	first := slices.Index(calls, "rename .placed")
	return calls[max(0, first-1):]
}

// A directory of results may have come with a checkout: .placed names what is
// behind a symbolic link, and there b9 neither removes nor writes anything.
func TestResultsBehindALink(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	outside := t.TempDir()
	precious := filepath.Join(outside, "deep", "a")
	if err := errors.Join(os.Mkdir(filepath.Dir(precious), 0o755), os.WriteFile(precious, []byte("precious"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{outside, "mine"} {
		out := filepath.Join(t.TempDir(), "out")
		placed := ""
		for _, rel := range []string{"sub/deep/a", "../" + filepath.Base(outside), precious} {
			placed += a.Digest().String() + " 644 - " + rel + "\n"
		}
		err := errors.Join(os.MkdirAll(filepath.Join(out, "mine", "deep"), 0o755), os.Symlink(link, filepath.Join(out, "sub")),
			os.WriteFile(filepath.Join(out, "mine", "deep", "a"), []byte("precious"), 0o644), os.WriteFile(filepath.Join(out, ".placed"), []byte(placed), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		_, err = engine.Place(t.Context(), engine.Destination{Dir: out}, []engine.Wanted{{Artifact: a, Path: "sub/deep/a"}, {Artifact: a, Path: "sub/new"}})
		if err == nil || !strings.Contains(err.Error(), "sub is a symbolic link") {
			t.Errorf("placing behind a link to %s: %v", link, err)
		}
		if n, err := engine.RemoveResults(t.Context(), out, nil); n != 0 || err == nil || !strings.Contains(err.Error(), "sub is a symbolic link") {
			t.Errorf("removing behind a link to %s: %d, %v", link, n, err)
		}
		for _, path := range []string{precious, filepath.Join(out, "mine", "deep", "a")} {
			if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
				t.Errorf("%s is %q now, %v", path, data, err)
			}
		}
		if left, _ := os.ReadDir(outside); len(left) != 1 {
			t.Errorf("outside lie %v", left)
		}
	}
}

// What a checkout has put in the place of b9's own files stops nobody.
func TestPlacedIsNoFile(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	for name, plant := range map[string]func(string) error{
		"FIFO":    func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"link":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"garbage": func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o644) },
	} {
		out := t.TempDir()
		if err := errors.Join(plant(filepath.Join(out, ".placed")), plant(filepath.Join(out, ".b9-staging-1"))); err != nil {
			t.Fatal(err)
		}
		place(t, out, a, "a")
		if sign := engine.SignIn(out, "a"); sign == "" || sign == "-" {
			t.Errorf("%s: the result is known as %q", name, sign)
		}
	}
}

// What .placed says came with a checkout: it may name what can't be a result. Nothing of
// that is touched, nor in the way of a build and of its removal.
func TestPlacedNamesNoResult(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	top := t.TempDir()
	out, mine := filepath.Join(top, "out"), filepath.Join(top, "out", "mine")
	if err := errors.Join(os.Mkdir(out, 0o755), os.WriteFile(mine, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, rel := range []string{".", "", "..", "../out", out, ".placed", ".b9-staging-1/x", "x/../mine", "./mine", "mine/"} {
		fmt.Fprintf(&text, "b3:%064d 644 - %s\n", 0, rel)
	}
	if err := os.WriteFile(filepath.Join(out, ".placed"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	place(t, out, a, "a")
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 1 || err != nil {
		t.Errorf("%d results removed, %v", n, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// To look for results in a pipe would wait for ever.
func TestResultsAreNoDirectory(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	if err := syscall.Mkfifo(out, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.RemoveResults(t.Context(), out, nil); err == nil || !strings.Contains(err.Error(), "is not the directory of the results") {
		t.Errorf("got %v", err)
	}
}

// TestPlaceObeysTheUmaskOfDirectories: nobody who may not read what this user makes gets
// into a directory. What is in it keeps its permissions.
func TestPlaceObeysTheUmaskOfDirectories(t *testing.T) {
	b := newBench(t)
	ref := treeNode(t)
	r, err := b.engine(engine.Config{}).Build(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for umask, want := range map[os.FileMode]os.FileMode{0o022: 0o755, 0o002: 0o755, 0o027: 0o750, 0o077: 0o700} {
		out := filepath.Join(b.dir, fmt.Sprintf("out%o", umask))
		placed, err := engine.Place(t.Context(), engine.Destination{Dir: out, Umask: umask}, []engine.Wanted{{Artifact: r.Artifact(ref), Path: "t"}})
		if err != nil {
			t.Fatal(err)
		}
		if mode := inode(t, placed[0].Path).Mode().Perm(); mode != want {
			t.Errorf("umask %o: the directory has mode %o, want %o", umask, mode, want)
		}
		if mode := inode(t, filepath.Join(placed[0].Path, "leaf")).Mode(); mode != 0o644 {
			t.Errorf("umask %o: the file in it has mode %o", umask, mode)
		}
	}
}

// The permissions of a result are those that were asked for, less the umask.
func TestPlaceObeysTheUmask(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	r, err := engine.Place(t.Context(), engine.Destination{Dir: out, Umask: 0o027}, []engine.Wanted{{Artifact: a, Path: "a"}, {Artifact: a, Path: "b", Mode: 0o755}, {Artifact: a, Path: "c", Mode: 0o600}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []os.FileMode{0o640, 0o750, 0o600} {
		if mode := inode(t, r[i].Path).Mode(); mode != want {
			t.Errorf("%s has mode %v, want %v", r[i].Path, mode, want)
		}
	}
}

// placeLinked places an artifact as a link, or as a copy.
func placeLinked(t *testing.T, dir string, a *engine.Artifact, mode uint32, link bool) string {
	t.Helper()
	r, err := engine.Place(t.Context(), engine.Destination{Dir: dir, Link: link}, []engine.Wanted{{Artifact: a, Path: "sub/a", Mode: mode}})
	if err != nil {
		t.Fatal(err)
	}
	return r[0].Path
}

// TestPlaceLinks: a file of the store becomes a link to it and a copy again, as is asked
// for, and stays as it is while that is unchanged.
func TestPlaceLinks(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	for i, link := range []bool{true, true, false, false, true} {
		path := placeLinked(t, out, a, 0, link)
		first := inode(t, path)
		if got := first.Mode()&os.ModeSymlink != 0; got != link {
			t.Errorf("placing %d: a link: %v, want %v", i, got, link)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "result" {
			t.Errorf("placing %d: %q, %v", i, data, err)
		}
		if placeLinked(t, out, a, 0, link); !os.SameFile(first, inode(t, path)) {
			t.Errorf("placing %d: what was there unchanged was placed again", i)
		}
	}
	path := filepath.Join(out, "sub", "a")
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	placeLinked(t, out, a, 0, true)
	if data, err := os.ReadFile(path); err != nil || string(data) != "result" {
		t.Errorf("a link that was led elsewhere: %q, %v", data, err)
	}
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 1 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if data, err := a.ReadAll(100); err != nil || string(data) != "result" {
		t.Errorf("with the link went the object: %q, %v", data, err)
	}
}

// What no link can stand for is copied: directories, and what has to be run.
func TestPlaceLinksFilesOnly(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	tree := treeNode(t)
	r, err := b.engine(engine.Config{}).Build(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(b.dir, "out")
	if mode := inode(t, placeLinked(t, out, a, 0o755, true)).Mode(); mode != 0o755 {
		t.Errorf("a program has mode %v", mode)
	}
	if mode := inode(t, placeLinked(t, out, r.Artifact(tree), 0, true)).Mode(); !mode.IsDir() {
		t.Errorf("a directory has mode %v", mode)
	}
}

// TestPlaceTellsHowFarItIs: the bytes of data that were placed add up to all there are;
// links have none.
func TestPlaceTellsHowFarItIs(t *testing.T) {
	b := newBench(t)
	text := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	one, two := node(t, "//:a", &join{Text: text}), node(t, "//:b", &join{Text: text + "!"})
	r, err := b.engine(engine.Config{}).Build(t.Context(), one, two)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []bool{true, false} {
		var told []int64
		_, err = engine.Place(t.Context(), engine.Destination{Dir: filepath.Join(b.dir, "out"), Link: link, Placing: func(done, total int64) {
			if told = append(told, done); total != int64(2*len(text)+1) {
				t.Errorf("%d bytes in all, want %d", total, 2*len(text)+1)
			}
		}}, []engine.Wanted{{Artifact: r.Artifact(one), Path: "a"}, {Artifact: r.Artifact(two), Path: "b"}})
		if err != nil {
			t.Fatal(err)
		}
		if link && len(told) != 0 {
			t.Errorf("links have bytes: %v", told)
		}
		if !link && (!slices.IsSorted(told) || len(told) == 0 || told[len(told)-1] != int64(2*len(text)+1)) {
			t.Errorf("told %v", told)
		}
	}
}

// TestPlacingWhileOthersClean has several builds place the same results while the directory
// is emptied again and again: each succeeds, and in the end every result is still known as one.
func TestPlacingWhileOthersClean(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	wanted := []engine.Wanted{{Artifact: a, Path: "a"}, {Artifact: a, Path: "sub/b"}}
	done := make(chan struct{})
	var placing, cleaning sync.WaitGroup
	cleaning.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := engine.RemoveResults(t.Context(), out, nil); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		placing.Go(func() {
			for range 8 {
				if _, err := engine.Place(t.Context(), engine.Destination{Dir: out}, wanted); err != nil {
					t.Error(err)
				}
			}
		})
	}
	placing.Wait()
	close(done)
	cleaning.Wait()
	if _, err := engine.Place(t.Context(), engine.Destination{Dir: out}, wanted); err != nil {
		t.Fatal(err)
	}
	if n, err := engine.RemoveResults(t.Context(), out, nil); n != 2 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if _, err := os.Lstat(out); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}
