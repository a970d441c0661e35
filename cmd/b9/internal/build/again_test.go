package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/session"
)

// againFiles is a workspace whose targets rest on everything that a trace
// holds: packages found, a library, a glob, source files and directories.
var againFiles = map[string]string{
	"b9.toml":          "",
	"lib.star":         "def greet(who):\n    return \"hello \" + who\n",
	"B9BUILD.star":     "load(\":lib.star\", \"greet\")\nprint(\"evaluated\")\nfile(name = \"greeting\", content = greet(option(\"who\", default = \"you\")))\ntree(name = \"conf\", srcs = glob([\"conf/*.cfg\"]))\n",
	"conf/a.cfg":       "a\n",
	"sub/B9BUILD.star": "template(name = \"page\", src = \"page.txt\", vars = {\"x\": \"1\"})\ndigest(name = \"sum\", file = \"page.txt\")\n",
	"sub/page.txt":     "page ${x}\n",
}

type againTest struct {
	*testing.T
	dir, store string
	grain      time.Duration // of the file system's clock
}

func newAgainTest(t *testing.T) *againTest {
	at := &againTest{t, t.TempDir(), filepath.Join(t.TempDir(), "store"), 1}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for name, text := range againFiles {
		at.write(name, text)
	}
	return at
}

func (t *againTest) write(name, text string) {
	t.Helper()
	path := filepath.Join(t.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// maker is a command that builds everything, and what it prints.
func (t *againTest) maker(options ...string) (b *maker, out, progress *bytes.Buffer) {
	t.Helper()
	out, progress = new(bytes.Buffer), new(bytes.Buffer)
	p := session.New(strings.NewReader(""), out, progress)
	p.Dir, p.Store = t.dir, t.store
	s, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Flags: Flags{display: "plain", options: options}, Patterns: []string{"//..."}, Results: out}
	return &maker{Session: s, Request: r, grain: t.grain}, out, progress
}

// build does what the command does.
func (t *againTest) build(args ...string) (out, progress string) {
	t.Helper()
	b, o, p := t.maker(args...)
	defer b.Close()
	if err := b.run(context.Background()); err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
	return o.String(), p.String()
}

// known reports whether a build would be told that it has nothing to do.
func (t *againTest) known(options ...string) bool {
	t.Helper()
	b, _, _ := t.maker(options...)
	defer b.Close()
	r, err := b.again(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r != nil
}

// settle brings the build to where it has nothing to do, and knows it.
func (t *againTest) settle() {
	t.Helper()
	t.build() // which makes b9-out, and so changes the root
	t.build()
	if !t.known() {
		t.Fatal("a build with nothing to do is not known to have nothing to do")
	}
	t.tick()
}

// tick returns when what is changed next gets another time than what has been
// changed so far.
func (t *againTest) tick() {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	changed := func() time.Time {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	for now := changed(); !changed().After(now); {
		runtime.Gosched()
	}
}

func TestAgainTellsWhatTheBuildTold(t *testing.T) {
	test := newAgainTest(t)
	test.settle()
	out, progress := test.build()
	if err := os.RemoveAll(filepath.Join(test.store, "notes")); err != nil {
		t.Fatal(err)
	}
	if test.known() {
		t.Fatal("known without a note")
	}
	wantOut, wantProgress := test.build()
	if out != wantOut || !strings.Contains(out, "b9-out/sub/page") {
		t.Errorf("standard output\n%s, want\n%s", out, wantOut)
	}
	cut := func(s string) string { before, _, _ := strings.Cut(s, " in "); return before }
	if cut(progress) != cut(wantProgress) || !strings.Contains(progress, "evaluated") || !strings.Contains(progress, "0 executed") {
		t.Errorf("standard error\n%s, want\n%s", progress, wantProgress)
	}
}

func TestAgainSeesEveryChange(t *testing.T) {
	test := newAgainTest(t)
	path := func(name string) string { return filepath.Join(test.dir, name) }
	changes := []struct {
		what   string
		change func() error
	}{
		{"a library", func() error {
			return os.WriteFile(path("lib.star"), []byte(strings.Replace(againFiles["lib.star"], "hello", "howdy", 1)), 0o644)
		}},
		{"a build file", func() error {
			return os.WriteFile(path("sub/B9BUILD.star"), []byte(againFiles["sub/B9BUILD.star"]+"# more\n"), 0o644)
		}},
		{"a source file", func() error { return os.WriteFile(path("sub/page.txt"), []byte("Page ${x}\n"), 0o644) }},
		{"a file for the glob", func() error { return os.WriteFile(path("conf/b.cfg"), []byte("b\n"), 0o644) }},
		{"a package", func() error { return os.MkdirAll(path("new"), 0o755) }},
		{"a build file in it", func() error {
			return os.WriteFile(path("new/B9BUILD.star"), []byte(`file(name = "n", content = "n")`), 0o644)
		}},
		{"a removed glob file", func() error { return os.Remove(path("conf/b.cfg")) }},
		{"the mode of a source", func() error { return os.Chmod(path("sub/page.txt"), 0o600) }},
		{"a changed result", func() error { return os.WriteFile(path("b9-out/greeting"), []byte("hello YOU"), 0o644) }},
		{"a removed result", func() error { return os.Remove(path("b9-out/sub/page")) }},
		{"a result tree", func() error { return os.WriteFile(path("b9-out/conf/conf/a.cfg"), []byte("b\n"), 0o644) }},
		{"the objects", func() error { return emptyDirs(filepath.Join(test.store, "objects")) }},
		{"the configuration", func() error { return os.WriteFile(path("b9.toml"), []byte("[options]\nwho = \"us\"\n"), 0o644) }},
	}
	for _, c := range changes {
		t.Run(c.what, func(t *testing.T) {
			test.T = t
			test.settle()
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
			if test.known() {
				t.Error("the change was not seen")
			}
		})
	}
	test.T = t
	test.settle()
	if test.known("who=them") {
		t.Error("another option was not seen")
	}
}

func TestAgainDoesNotTrustWhatJustChanged(t *testing.T) {
	test := newAgainTest(t)
	test.settle()
	test.grain = time.Hour
	test.write("sub/page.txt", "PAGE ${x}\n")
	test.build()
	if test.known() {
		t.Error("a file that had changed a moment before was trusted")
	}
}

// emptyDirs removes the files in the directories in dir.
func emptyDirs(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}
