package b9_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	maxFiles     = 30  // Go files of a package, tests not counted
	maxFunction  = 100 // lines of a function, tests not counted
	familyOfFile = 3   // so many files with one prefix are a package that is missing
)

// todo lists what does not meet a rule yet, a line each: the rule and the place.
const todo = "testdata/house.txt"

// breach is a place that does not meet a rule.
type breach struct {
	rule, place string
	why         string
}

// key is the line of the breach in todo.
func (b breach) key() string { return b.rule + " " + b.place }

// exceptions lists the places that may break a rule for good, with the reason.
func exceptions() map[string]string {
	return map[string]string{
		// What an action may be besides: it has the methods, and nobody names the type.
		"export engine.Tooled": "actions implement it",
		// One directory, one lock and one order of what survives a crash.
		"files engine/store": "what is stored, and all that may take it away again",
	}
}

// source is the Go files of one directory.
type source struct {
	dir   string // relative to the module's root, with slashes
	name  string // of the package, without _test
	files []file
}

type file struct {
	name   string // without the directory
	test   bool
	syntax *ast.File
}

// TestHouse holds the source tree to what of CONTRIBUTING.md can be counted.
// What is listed in todo is known; a line there that is not needed any more
// fails, and -update takes it out. Nothing adds lines but a person.
func TestHouse(t *testing.T) {
	fset := token.NewFileSet()
	tree := parseTree(t, fset)
	found := map[string]breach{}
	for _, rule := range []func(*token.FileSet, source) []breach{
		fewFiles, commented, shortFunctions, namesWithoutPackage, noFamilies, corpora, quickStart,
	} {
		for _, s := range tree {
			for _, b := range rule(fset, s) {
				found[b.key()] = b
			}
		}
	}
	for _, b := range unusedExports(t) {
		found[b.key()] = b
	}
	judge(t, found)
}

// judge compares what was found with the exceptions and what is known.
func judge(t *testing.T, found map[string]breach) {
	may, known := exceptions(), knownBreaches(t)
	for _, key := range sorted(found) {
		if _, ok := may[key]; !ok && !slices.Contains(known, key) {
			t.Errorf("%s: %s", key, found[key].why)
		}
	}
	for _, key := range sorted(may) {
		if _, ok := found[key]; !ok {
			t.Errorf("%s: nothing is wrong there any more: take it out of exceptions in house_test.go", key)
		}
	}
	mended := slices.DeleteFunc(slices.Clone(known), func(key string) bool { _, ok := found[key]; return ok })
	if len(mended) == 0 {
		return
	}
	if *update {
		rewriteKnown(t, known, mended)
		return
	}
	for _, key := range mended {
		t.Errorf("%s: nothing is wrong there any more: take the line out of %s (-update does)", key, todo)
	}
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// knownBreaches reads todo. There need not be such a file.
func knownBreaches(t *testing.T) []string {
	data, err := os.ReadFile(todo)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

func rewriteKnown(t *testing.T, known, mended []string) {
	text := "# What does not meet a rule of house_test.go yet. Lines only go.\n"
	for _, key := range known {
		if !slices.Contains(mended, key) {
			text += key + "\n"
		}
	}
	if err := os.WriteFile(todo, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// parseTree parses every Go file of the module.
func parseTree(t *testing.T, fset *token.FileSet) []source {
	t.Helper()
	byDir := map[string]*source{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "b9-out") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || filepath.Ext(p) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(p))
		if byDir[dir] == nil {
			byDir[dir] = &source{dir: dir, name: strings.TrimSuffix(syntax.Name.Name, "_test")}
		}
		byDir[dir].files = append(byDir[dir].files, file{d.Name(), strings.HasSuffix(p, "_test.go"), syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	for _, dir := range sorted(byDir) {
		all = append(all, *byDir[dir])
	}
	return all
}

// code returns the files that are not tests.
func (s source) code() []file {
	return slices.DeleteFunc(slices.Clone(s.files), func(f file) bool { return f.test })
}

// fewFiles bounds the files of a package.
func fewFiles(_ *token.FileSet, s source) []breach {
	if n := len(s.code()); n > maxFiles {
		return []breach{{"files", s.dir, fmt.Sprintf("%d files, more than %d: there are two subjects in it", n, maxFiles)}}
	}
	return nil
}

// commented wants one package comment, which begins as go doc expects it.
func commented(_ *token.FileSet, s source) []breach {
	files := s.code()
	if len(files) == 0 {
		files = s.files
	}
	begin := "Package " + s.name + " "
	if s.name == "main" {
		begin = "Command " + path.Base(s.dir) + " "
	}
	if len(s.code()) == 0 {
		begin = "Package "
	}
	comments := 0
	for _, f := range files {
		if f.syntax.Doc == nil {
			continue
		}
		comments++
		if text := f.syntax.Doc.Text(); !strings.HasPrefix(text, begin) {
			return []breach{{"comment", s.dir, fmt.Sprintf("%s: the package comment begins %.30q and not %q", f.name, text, begin)}}
		}
	}
	if comments != 1 {
		return []breach{{"comment", s.dir, fmt.Sprintf("%d package comments, want 1", comments)}}
	}
	return nil
}

// shortFunctions bounds the lines of a function.
func shortFunctions(fset *token.FileSet, s source) []breach {
	var found []breach
	for _, f := range s.code() {
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				found = append(found, breach{"function", s.dir + "." + fn.Name.Name, fmt.Sprintf("%d lines, more than %d", n, maxFunction)})
			}
		}
	}
	return found
}

// namesWithoutPackage wants no name that says its package again. The very name
// of the package is no such name: image.Image is what it is.
func namesWithoutPackage(_ *token.FileSet, s source) []breach {
	var found []breach
	if s.name == "main" {
		return nil
	}
	for _, f := range s.code() {
		for _, name := range topLevel(f.syntax) {
			if begins(name, s.name) {
				found = append(found, breach{"name", s.dir + "." + name, "the name says the package again"})
			}
		}
		if strings.HasPrefix(f.name, s.name+"_") {
			found = append(found, breach{"name", s.dir + "/" + f.name, "the file's name says the package again"})
		}
	}
	return found
}

// noFamilies wants no prefix that several files and the names in them share.
func noFamilies(_ *token.FileSet, s source) []breach {
	families := map[string][]file{}
	for _, f := range s.code() {
		prefix, _, _ := strings.Cut(strings.TrimSuffix(f.name, ".go"), "_")
		families[prefix] = append(families[prefix], f)
	}
	var found []breach
	for prefix, files := range families {
		if len(files) < familyOfFile {
			continue
		}
		for _, f := range files {
			for _, name := range topLevel(f.syntax) {
				if begins(name, prefix) {
					found = append(found, breach{"family", s.dir + "." + name, fmt.Sprintf("%d files begin with %s: it is a package, or a needless prefix", len(files), prefix)})
				}
			}
		}
	}
	return found
}

// begins reports whether the first words of name are the word, in any case, and
// others follow.
func begins(name, word string) bool {
	if len(name) <= len(word) || !strings.EqualFold(name[:len(word)], word) {
		return false
	}
	next, _ := utf8.DecodeRuneInString(name[len(word):])
	return unicode.IsUpper(next)
}

// topLevel returns the names that a file declares, methods and tests of the
// compiler (_) left out.
func topLevel(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "_" })
}

// corpora wants a corpus of every fuzz target: what once went wrong is tried
// first, and by every go test.
func corpora(_ *token.FileSet, s source) []breach {
	var found []breach
	for _, f := range s.files {
		for _, name := range topLevel(f.syntax) {
			if !f.test || !strings.HasPrefix(name, "Fuzz") {
				continue
			}
			if entries, err := os.ReadDir(path.Join(s.dir, "testdata", "fuzz", name)); err != nil || len(entries) == 0 {
				found = append(found, breach{"corpus", s.dir + "." + name, "no corpus in testdata/fuzz/" + name})
			}
		}
	}
	return found
}

// quickStart wants no regular expression that every command compiles when it
// starts, whether it needs it or not: sync.OnceValue compiles it at its first use.
func quickStart(_ *token.FileSet, s source) []breach {
	var found []breach
	for _, f := range s.code() {
		for _, d := range f.syntax.Decls {
			if g, ok := d.(*ast.GenDecl); !ok || g.Tok != token.VAR {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				call, ok := n.(*ast.SelectorExpr)
				if ok && fmt.Sprint(call.X) == "regexp" && strings.HasPrefix(call.Sel.Name, "MustCompile") {
					found = append(found, breach{"start", s.dir + "/" + f.name, "a regular expression is compiled when the program starts: see sync.OnceValue"})
				}
				_, later := n.(*ast.FuncLit)
				return !later
			})
		}
	}
	return found
}

// TestHouseRules shows each rule something that breaks it.
func TestHouseRules(t *testing.T) {
	fset := token.NewFileSet()
	parse := func(name, text string) file {
		syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		return file{name, strings.HasSuffix(name, "_test.go"), syntax}
	}
	long := "package disk\n\nfunc long() {\n" + strings.Repeat("\tlong()\n", maxFunction) + "}\n"
	many := slices.Repeat([]file{parse("a.go", "package disk\n")}, maxFiles+1)
	for _, c := range []struct {
		rule  func(*token.FileSet, source) []breach
		files []file
		want  []string
	}{
		{fewFiles, many, []string{"files engine/disk"}},
		{fewFiles, many[1:], nil},
		{commented, many[:1], []string{"comment engine/disk"}},
		{commented, []file{parse("a.go", "// Package image is.\npackage disk\n")}, []string{"comment engine/disk"}},
		{commented, []file{parse("a.go", "// Package disk is.\npackage disk\n")}, nil},
		{shortFunctions, []file{parse("a.go", long)}, []string{"function engine/disk.long"}},
		{namesWithoutPackage, []file{parse("disk_a.go", "package disk\n\ntype (\n\tDisk int\n\tDiskType int\n\tdisks int\n)\n\nvar _, diskSize int\n")},
			[]string{"name engine/disk.DiskType", "name engine/disk.diskSize", "name engine/disk/disk_a.go"}},
		{noFamilies, []file{parse("ssh.go", "package disk\n\nfunc sshDial() {}\n"), parse("ssh_a.go", "package disk\n"), parse("ssh_b.go", "package disk\n")},
			[]string{"family engine/disk.sshDial"}},
		{corpora, []file{parse("a_test.go", "package disk\n\nfunc FuzzNothing() {}\n")}, []string{"corpus engine/disk.FuzzNothing"}},
		{quickStart, []file{parse("a.go", "package disk\n\nvar form = regexp.MustCompile(`a`)\n"),
			parse("b.go", "package disk\n\nvar form = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`a`) })\n")},
			[]string{"start engine/disk/a.go"}},
	} {
		var got []string
		for _, b := range c.rule(fset, source{"engine/disk", "disk", c.files}) {
			got = append(got, b.key())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
