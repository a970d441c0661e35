package lang

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"

	"b9.build/b9/engine"
)

// A trial calls a function of a file when the file has been evaluated, which is how tests
// of rules run. What rules do is seen by testing, the module that @b9//assert.star is made
// of: which calls they made, what was wrong with them, in what values differ. A mistake
// that a call of an operation notes ends neither the function nor what is evaluated
// otherwise; testing.attempt() takes the mistakes of a function back.

// Trial says how a function is called.
type Trial struct {
	Function string // of the file, without parameters
	Update   bool   // files that hold what is expected are written anew
}

// trial is one that runs.
type trial struct {
	Trial
	m *module
}

const trialKey = "trial"

// assertions is the library whose calls nobody wants to see in the stack of a mistake.
const assertions = libraryPrefix + "assert.star"

// Try evaluates a file, a path below the root, and calls a function of it. The error is
// an [Errors] where the file, the function, or a call that either makes, is wrong. A
// workspace is good for one trial: what one function did another one would see.
func (w *Workspace) Try(ctx context.Context, file string, t Trial) error {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	pkg, name, err := splitFile(file)
	if err != nil {
		return err
	}
	base := Label{Pkg: pkg, File: name}
	w.cfg.Arguments = true // for testing.made()
	err = w.bounded(ctx, func(ctx context.Context) {
		w.loadOne(ctx, base)
		if m := w.loaded(base.file()); m != nil && !m.failed {
			m.try(ctx, t)
		}
	})
	if err != nil {
		return w.stopError(err)
	}
	m := w.loaded(base.file())
	if m == nil || m.missing {
		return fmt.Errorf("there is no file %s", file)
	}
	return m.inOrder()
}

// inOrder are the mistakes of the workspace: those of the module come last, as they came.
func (m *module) inOrder() error {
	var others []*Error
	for _, e := range m.ws.moduleErrors() {
		if e.withoutAssertions(); !slices.Contains(m.errs, e) {
			others = append(others, e)
		}
	}
	if _, all := sortedErrors(others), slices.Concat(others, m.errs); len(all) > 0 {
		for _, e := range all {
			e.forUser()
		}
		return Errors(all)
	}
	return nil
}

// try calls the function.
func (m *module) try(ctx context.Context, t Trial) {
	fn, ok := m.globals[t.Function].(starlark.Callable)
	if !ok {
		m.fail(&Error{Pos: engine.Position{File: m.id, Line: 1, Col: 1}, Msg: "there is no test in it: a test is a function test_* without parameters"})
		return
	}
	thread, stop := m.ws.thread(ctx, m)
	defer stop()
	thread.SetLocal(trialKey, &trial{t, m})
	if _, err := starlark.Call(thread, fn, nil, nil); err != nil {
		m.errs = append(m.errs, m.mistakes(stopped(ctx, err))...)
	}
}

// mistakes translates what a function of the file ended with.
func (m *module) mistakes(err error) []*Error {
	found := evaluationErrors(err, knownNames(m.ws.env))
	for _, e := range found {
		m.tellMeant(e)
	}
	return found
}

// withoutAssertions leaves out the calls within the library of assertions.
func (e *Error) withoutAssertions() {
	n := 0
	for n < len(e.Stack) && e.Stack[n].Pos.File == assertions {
		n++
	}
	if n > 0 && n < len(e.Stack) {
		e.Msg = e.Stack[n-1].Name + "(): " + strings.TrimPrefix(e.Msg, "fail(): ")
		e.Stack = e.Stack[n:]
		e.Pos = e.Stack[0].Pos
	}
}

// testingModule is the module for tests.
func testingModule() *starlarkstruct.Module {
	module := &starlarkstruct.Module{Name: "testing", Members: starlark.StringDict{}}
	for name, fn := range map[string]func(*trial, *starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error){
		"attempt": (*trial).attempt,
		"diff":    (*trial).diff,
		"golden":  (*trial).golden,
		"made":    (*trial).made,
		"search":  (*trial).search,
		"shown":   (*trial).shown,
	} {
		module.Members[name] = starlark.NewBuiltin("testing."+name, func(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			t, ok := thread.Local(trialKey).(*trial)
			if !ok {
				return nil, fmt.Errorf("%s(): only a test calls it: `b9 test` runs the functions test_* of files *_test.star", b.Name())
			}
			return fn(t, thread, b, args, kwargs)
		})
	}
	module.Freeze()
	return module
}

// attempt calls a function, and returns what was wrong with it and with the calls that it
// made, a text for each mistake. Then all is as if it had not been called.
func (t *trial) attempt(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var function starlark.Callable
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "function", &function); err != nil {
		return nil, err
	}
	forget := t.m.remember()
	outer, errs := len(framesOf(thread.CallStack())), len(t.m.errs)
	if _, err := starlark.Call(thread, function, nil, nil); err != nil {
		if strings.Contains(err.Error(), cancelled) {
			return nil, err
		}
		t.m.errs = append(t.m.errs, t.m.mistakes(err)...)
	}
	var texts []starlark.Value
	for _, e := range t.m.errs[errs:] {
		if len(e.Stack) > outer {
			e.Stack = e.Stack[:len(e.Stack)-outer]
		}
		e.forUser()
		e.Within = nil // it changes with every b9
		texts = append(texts, starlark.String(e.Error()))
	}
	forget()
	return starlark.NewList(texts), nil
}

// remember notes what calls change in a module. The function that it returns takes that
// back.
func (m *module) remember() (restore func()) {
	targets := make(map[string]*declaration, len(m.targets))
	for name, d := range m.targets {
		targets[name] = d
	}
	order, unnamed, errs := len(m.order), len(m.unnamed), len(m.errs)
	return func() {
		m.targets, m.order, m.unnamed, m.errs = targets, m.order[:order], m.unnamed[:unnamed], m.errs[:errs]
	}
}

// made lists the calls of operations so far that record a step, in their order.
func (t *trial) made(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackArgs(b.Name(), args, kwargs); err != nil {
		return nil, err
	}
	all := slices.Concat(t.m.order, t.m.unnamed)
	slices.SortFunc(all, func(a, b *declaration) int { return int(a.seq) - int(b.seq) })
	var list []starlark.Value
	for _, d := range all {
		attributes := &starlark.Dict{}
		for i, v := range d.said().args.values {
			if v != nil && v != starlark.None {
				_ = attributes.SetKey(starlark.String(d.said().args.names[i]), v) // no hash of a text fails
			}
		}
		list = append(list, starlarkstruct.FromStringDict(starlarkstruct.Default, starlark.StringDict{
			"name": starlark.String(d.name), "kind": starlark.String(d.op), "attributes": attributes,
		}))
	}
	return starlark.NewList(list), nil
}

// diff tells in what two values differ, a line each; "" for equal ones.
func (t *trial) diff(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var got, want starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "got", &got, "want", &want); err != nil {
		return nil, err
	}
	same, err := starlark.EqualDepth(got, want, maxShown)
	if err != nil || same {
		return starlark.String(""), err
	}
	x, isText := got.(starlark.String)
	y, both := want.(starlark.String)
	if isText && both && (strings.Contains(string(x), "\n") || strings.Contains(string(y), "\n")) {
		return starlark.String(difference(string(x), string(y))), nil
	}
	return starlark.String(difference(shown(got), shown(want))), nil
}

// shown is how diff shows a value.
func (t *trial) shown(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "value", &v); err != nil {
		return nil, err
	}
	return starlark.String(shown(v)), nil
}

// difference tells in what lines two texts differ.
func difference(got, want string) string {
	line := func(text string) []byte { return []byte(strings.TrimSuffix(text, "\n") + "\n") }
	text := diff.Diff("want", line(want), "got", line(got))
	if text == nil {
		return "what is printed of both is the same:\n" + got
	}
	_, text, _ = bytes.Cut(text, []byte("\n")) // "diff want got"
	return strings.TrimSuffix(string(text), "\n")
}

// maxShown is how deep values are compared and shown.
const maxShown = 64

// shown is a value on as many lines as it has elements. Steps are shown as labels name
// them.
func shown(v starlark.Value) string {
	var b strings.Builder
	show(&b, v, "", maxShown)
	return b.String()
}

func show(b *strings.Builder, v starlark.Value, indent string, depth int) {
	if depth == 0 {
		b.WriteString("...")
		return
	}
	inner := indent + "    "
	element := func(name string, v starlark.Value) {
		b.WriteString(inner + name)
		show(b, v, inner, depth-1)
		b.WriteString(",\n")
	}
	switch v := v.(type) {
	case *Handle:
		b.WriteString(v.String())
	case *starlark.Dict:
		b.WriteString("{\n")
		for _, pair := range v.Items() {
			element(shown(pair[0])+": ", pair[1])
		}
		b.WriteString(indent + "}")
	case *starlarkstruct.Struct:
		b.WriteString("struct(\n")
		for _, name := range v.AttrNames() {
			field, _ := v.Attr(name) // one of its own
			element(name+" = ", field)
		}
		b.WriteString(indent + ")")
	case starlark.Tuple, *starlark.List, *starlark.Set:
		brackets := map[string]string{"tuple": "()", "list": "[]", "set": "{}"}[v.Type()]
		b.WriteString(brackets[:1] + "\n")
		for x := range starlark.Elements(v.(starlark.Iterable)) {
			element("", x)
		}
		b.WriteString(indent + brackets[1:])
	default:
		b.WriteString(v.String())
	}
}

// search reports whether a regular expression finds something in a text.
func (t *trial) search(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var pattern, text string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "pattern", &pattern, "text", &text); err != nil {
		return nil, err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("%q is no regular expression: %w", pattern, err)
	}
	return starlark.Bool(re.MatchString(text)), nil
}

// Golden is the end of the names of files that hold what a test expects.
const Golden = ".golden"

// golden tells in what a text differs from the file of that name beside the test; "" if in
// nothing. An update writes the file.
func (t *trial) golden(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name, text string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "file", &name, "text", &text); err != nil {
		return nil, err
	}
	if !strings.HasSuffix(name, Golden) || strings.HasPrefix(name, ".") || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is no file beside the test whose name ends in %s", name, Golden)
	}
	text = strings.TrimSuffix(text, "\n") + "\n"
	file := t.m.reads(path.Join(t.m.base.Pkg, name))
	if st, err := os.Lstat(file); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: what a test expects lies beside it", name)
	}
	if t.Update {
		return starlark.String(""), replaceFile(file, text)
	}
	want, err := readSource(file)
	if errors.Is(err, fs.ErrNotExist) {
		return starlark.String(fmt.Sprintf("there is no file %s: `b9 test --update` writes it:\n%s", name, strings.TrimSuffix(text, "\n"))), nil
	}
	if err != nil || string(want) == text {
		return starlark.String(""), err
	}
	return starlark.String(difference(text, string(want))), nil
}

// replaceFile gives a file a text; where a link took its name, the link goes.
func replaceFile(file, text string) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".golden-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// FileText is the text of a file that another one loads, directly or through others.
type FileText struct {
	File   string // its path below the root, or @b9//NAME.star
	Text   []byte // nil for a file that can't be read
	Globs  bool   // the text has the name of glob()
	Hidden bool   // and a string in which a name could begin with a dot
}

// Loads reads a file and all that it loads, itself first. Mistakes in them are nobody's
// here: what can't be found or read has no text.
func (w *Workspace) Loads(file string) ([]FileText, error) {
	pkg, name, err := splitFile(file)
	if err != nil {
		return nil, err
	}
	todo := []*module{{ws: w, id: file, base: Label{Pkg: pkg, File: name}}}
	seen := map[string]bool{file: true}
	var all []FileText
	for len(todo) > 0 {
		m := todo[0]
		todo = todo[1:]
		text, err := m.read()
		found := FileText{File: m.id, Text: text}
		tree, perr := parse(m.id, text)
		if err != nil || perr != nil {
			all = append(all, found)
			continue
		}
		found.Globs, found.Hidden = globs(tree)
		all = append(all, found)
		for _, label := range loadLabels(tree) {
			id, base, library, err := m.loadTarget(label)
			if err == nil && !seen[id] {
				seen[id] = true
				todo = append(todo, &module{ws: w, id: id, base: base, library: library})
			}
		}
	}
	return all, nil
}

// loadLabels lists the labels of the load() statements of a file.
func loadLabels(tree *syntax.File) (labels []string) {
	for _, s := range tree.Stmts {
		if load, ok := s.(*syntax.LoadStmt); ok {
			labels = append(labels, load.ModuleName())
		}
	}
	return labels
}

// globs reports whether a file may call glob(), and whether with a pattern of hidden names.
func globs(tree *syntax.File) (calls, hidden bool) {
	syntax.Walk(tree, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Ident:
			calls = calls || n.Name == "glob"
		case *syntax.Literal:
			text, _ := n.Value.(string)
			hidden = hidden || strings.HasPrefix(text, ".") || strings.Contains(text, "/.")
		}
		return true
	})
	return calls, hidden
}

// Chosen is what a pattern stands for of files that are told by the end of their names.
type Chosen struct {
	Files   []string // paths below the root, in order
	Name    string   // what the pattern names in the only file; "" for all
	Targets bool     // the pattern stands for targets of build files, perhaps beside files
	One     bool     // the pattern names a target by itself
}

// Suffixed finds the files below the root whose names end in suffix and that a pattern
// stands for: those below a directory, those in one, or one file.
func (w *Workspace) Suffixed(ctx context.Context, pattern, suffix string) (Chosen, error) {
	if _, _, ok := w.prefixed(pattern); ok {
		return Chosen{Targets: true, One: true}, nil
	}
	p, err := parsePattern(belowRoot(pattern, w.root), w.dir)
	switch {
	case err != nil:
		return Chosen{Targets: true, One: true}, nil //nolint:nilerr // Resolve tells what is wrong
	case strings.HasSuffix(p.Label.File, suffix):
		file := p.Label.file()
		if _, err := os.Stat(filepath.Join(w.root, filepath.FromSlash(file))); err != nil {
			return Chosen{}, Errors{{Label: pattern, Msg: "there is no file " + file, cause: err}}
		}
		return Chosen{Files: []string{file}, Name: p.Label.Name}, nil
	case !p.Recursive && (!p.All || p.Label.File != ""):
		return Chosen{Targets: true, One: !p.All}, nil
	}
	var c Chosen
	err = w.walk(ctx, p.Label.Pkg, func(dir string, entries []fs.DirEntry) (more bool) {
		for _, e := range entries {
			if e.Type().IsRegular() && strings.HasSuffix(e.Name(), suffix) {
				c.Files = append(c.Files, (&Label{Pkg: dir, File: e.Name()}).file())
			}
		}
		c.Targets = c.Targets || hasEntry(entries, BuildFile)
		return p.Recursive
	})
	c.Targets = c.Targets || len(c.Files) == 0 // Resolve says that there is nothing
	return c, err
}

// Names lists all files that glob() may find for a file in a directory below the root;
// hidden says whether those in hidden directories count.
func (w *Workspace) Names(dir string, hidden bool) ([]string, error) {
	g := globber{m: &module{ws: w}, pkg: dir}
	var walk func(rel string) error
	walk = func(rel string) error {
		entries, err := os.ReadDir(filepath.Join(w.root, filepath.FromSlash(path.Join(dir, rel))))
		if err != nil || rel != "" && (hasEntry(entries, BuildFile) || hasEntry(entries, RootFile)) {
			return err
		}
		for _, e := range entries {
			name := path.Join(rel, e.Name())
			switch {
			case g.isFile(name, e):
				g.found = append(g.found, name)
			case e.IsDir() && (hidden || e.Name()[0] != '.') && !w.isResults(path.Join(dir, name)):
				if err := walk(name); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := walk("")
	return g.found, err
}
