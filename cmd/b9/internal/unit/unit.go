// Package unit is the tests of rules that are written in Starlark: the functions test_* of
// the files *_test.star. It finds them, and makes each a step of its own, whose key has
// the texts that the file loads, so that a test that passed is not run again while they
// are the same.
//
// It does not choose which tests run, and shows nothing: that is the command's.
//
//	Tests   the tests of one file
//	Test    one of them
package unit

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/engine"
)

// Prefix is that of the functions that are tests.
const Prefix = "test_"

// Config says how tests are run.
type Config struct {
	// Open opens the workspace again, for one test, with what print() writes going to a
	// writer.
	Open func(ctx context.Context, stderr io.Writer) (*lang.Workspace, error)
	// Options are the values of options by name, as far as somebody gave some.
	Options map[string]string
}

// Test is one test, an action.
type Test struct {
	File     string // path below the root
	Function string // "" for a file that has a mistake

	B9      string            // the program, which is the same as long as its code is
	Loads   map[string]string // the digests of File and of what it loads, by name
	Beside  map[string]string // those of the files beside it that hold what is expected
	Globs   string            // that of the names that glob() may find; "" where nothing calls it
	Options map[string]string

	open func(context.Context, io.Writer) (*lang.Workspace, error) `key:"-"`
	dir  string                                                    `key:"-"` // the root
	at   engine.Position                                           `key:"-"`
}

// IsPrivate implements [engine.Private]: running a test takes less than asking another
// machine for its result.
func (t *Test) IsPrivate() bool { return true }

// Kind implements [engine.Action].
func (t *Test) Kind() string { return "unit_test/1" }

// Run implements [engine.Action]. It fails if the test does.
func (t *Test) Run(ctx context.Context, job *engine.Job) error {
	if err := t.Try(ctx, job.Log(), false); err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), []byte("passed\n"), 0o600)
}

// Try runs the test; with update it writes the files anew that hold what is expected.
// What print() writes goes to log.
func (t *Test) Try(ctx context.Context, log io.Writer, update bool) error {
	ws, err := t.open(ctx, log)
	if err != nil {
		return err
	}
	return ws.Try(ctx, t.File, lang.Trial{Function: t.Function, Update: update})
}

// Label is the name of the test.
func (t *Test) Label() string {
	if t.Function == "" {
		return "//" + t.File
	}
	return "//" + t.File + ":" + t.Function
}

// Tests are the steps of the tests of a file, in its order. A file that can't be read, or
// has no test, is one that fails.
func (c Config) Tests(ws *lang.Workspace, file string) ([]*engine.Node, error) {
	texts, err := ws.Loads(file)
	if err != nil {
		return nil, err
	}
	like := Test{File: file, B9: program(), Loads: map[string]string{}, Options: c.Options, open: c.Open}
	globs, hidden := false, false
	for _, text := range texts {
		like.Loads[text.File] = digest(text.Text)
		globs, hidden = globs || text.Globs, hidden || text.Hidden
	}
	if like.Beside, err = expected(filepath.Join(ws.Root(), filepath.FromSlash(path.Dir(file)))); err != nil {
		return nil, err
	}
	if globs {
		names, err := ws.Names(strings.TrimPrefix(path.Dir(file), "."), hidden)
		if err != nil {
			return nil, err
		}
		like.Globs = digest([]byte(strings.Join(names, "\n")))
	}
	var nodes []*engine.Node
	for _, fn := range functions(file, texts[0].Text) {
		t := like
		t.Function, t.dir, t.at = fn.Name, ws.Root(), fn.At
		n, err := t.node()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// node is the step of the test.
func (t *Test) node() (*engine.Node, error) {
	return engine.NewNode(t, engine.NodeOptions{Label: t.Label(), Builtin: t.title(), Stack: []engine.Position{t.at}, Outputs: lang.OneFile("txt")})
}

// Again is the step of the test when the files beside it have changed.
func (t *Test) Again() (*engine.Node, error) {
	again := *t
	var err error
	if again.Beside, err = expected(filepath.Join(t.dir, filepath.FromSlash(path.Dir(t.File)))); err != nil {
		return nil, err
	}
	return again.node()
}

// title is what messages call the test.
func (t *Test) title() string {
	if t.Function == "" {
		return "test"
	}
	return t.Function
}

// function is a test in the text of a file.
type function struct {
	Name string
	At   engine.Position
}

// functions lists the tests in the text of a file. Of one with a mistake, and of one
// without tests, it is one without a name, which fails.
func functions(file string, text []byte) []function {
	var all []function
	if tree, err := lang.ParseFile(file, text); err == nil {
		for _, name := range outline.Functions(tree) {
			if strings.HasPrefix(name, Prefix) {
				line, col := outline.Defined(tree, name)
				all = append(all, function{name, engine.Position{File: file, Line: line, Col: col}})
			}
		}
	}
	if len(all) == 0 {
		all = append(all, function{At: engine.Position{File: file, Line: 1, Col: 1}})
	}
	return all
}

// expected are the digests of the files of a directory that hold what tests expect.
func expected(dir string) (map[string]string, error) {
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), lang.Golden) {
			continue
		}
		text, err := engine.ReadSmall(filepath.Join(dir, e.Name()), lang.MaxFile)
		if err != nil {
			return nil, err
		}
		found[e.Name()] = digest(text)
	}
	return found, nil
}

func digest(text []byte) string {
	if text == nil {
		return "none"
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// program tells this program from one with other code, by the note that Go's linker
// leaves in it, which is a digest.
var program = sync.OnceValue(func() string {
	const self = "/proc/self/exe"
	if f, err := elf.Open(self); err == nil {
		defer f.Close()
		if note := f.Section(".note.go.buildid"); note != nil {
			if text, err := note.Data(); err == nil && len(text) > 16 {
				return digest(text)
			}
		}
	}
	if info, err := buildinfo.ReadFile(self); err == nil {
		return digest([]byte(info.String()))
	}
	return "unknown"
})

// Why says in words which parts of the key of a test changed.
func Why(changes []engine.Change) string {
	words := map[string]bool{}
	for _, c := range changes {
		name := strings.Trim(c.Part[strings.IndexByte(c.Part, '[')+1:], `"]`)
		switch part, _, _ := strings.Cut(c.Part, "["); {
		case part == "Loads" && name != part && c.Old == "":
			words[fmt.Sprintf("it loads %s now", name)] = true
		case part == "Loads" && name != part && c.New == "":
			words[fmt.Sprintf("it does not load %s any more", name)] = true
		case (part == "Loads" || part == "Beside") && name != part:
			words[name+" changed"] = true
		case part == "Options" && name != part:
			words["option "+name] = true
		case part == "Globs":
			words["what glob() may find changed"] = true
		case part == "B9" || part == "kind" || part == "b9":
			words["another b9"] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(words)), ", ")
}
