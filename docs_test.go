package b9_test

import (
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestArchitectureListsThePackages compares the table of packages in
// docs/architecture.md with the tree. The table's rows begin with the paths of
// the packages they speak of.
func TestArchitectureListsThePackages(t *testing.T) {
	told := map[string]bool{}
	for line := range strings.Lines(section(t, "docs/architecture.md", "## Packages")) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z0-9/]+)`").FindAllStringSubmatch(cells[1], -1) {
			if told[m[1]] {
				t.Errorf("docs/architecture.md: %s has two rows", m[1])
			}
			told[m[1]] = true
		}
	}
	for _, p := range packages(t, "libvirt_dlopen") {
		rel, _ := inModule(p.ImportPath)
		if rel != "" && !told[rel] {
			t.Errorf("docs/architecture.md: its table of packages lacks %s", rel)
		}
		delete(told, rel)
	}
	for rel := range told {
		t.Errorf("docs/architecture.md: there is no package %s", rel)
	}
}

// section returns a document's text from a heading to the next of its level.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", path, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// inSource finds what is written as a path of the source tree: `engine/store`,
// `cmd/b9/main.go`, [a link](docs/store.md).
var inSource = regexp.MustCompile("`((?:engine|builtins|cmd/b9|stdlib|examples|docs|testdata|\\.ci)/[A-Za-z0-9_./-]+|[a-z_]+_test\\.go)`|\\]\\(([^)#:]+)(?:#[^)]*)?\\)")

// TestDocumentsNameWhatIsThere looks for every path and every link of the
// documents in the tree. Changes tell of the past and are left out.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	for _, doc := range documents(t) {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inSource.FindAllStringSubmatch(string(data), -1) {
			path := m[1]
			if strings.Contains(path, "NAME") { // a file that a reader is to write
				continue
			}
			if path == "" {
				path = filepath.Join(filepath.Dir(doc), m[2])
			}
			if _, err := os.Stat(strings.TrimSuffix(path, "/...")); err != nil && !anywhere(path) {
				t.Errorf("%s: %s is not there", doc, path)
			}
		}
	}
}

// anywhere reports whether a name without a directory is one of a file
// somewhere in the tree.
func anywhere(name string) bool {
	found := false
	if strings.Contains(name, "/") {
		return false
	}
	_ = filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = true
			return fs.SkipAll
		}
		return err
	})
	return found
}

func documents(t *testing.T) []string {
	t.Helper()
	docs := []string{"README.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, found...)
	}
	return docs
}

// TestDecisionsAreListed compares the list of decisions with the files.
func TestDecisionsAreListed(t *testing.T) {
	data, err := os.ReadFile("docs/decisions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`\]\((\d{4}-[a-z0-9-]+\.md)\)`).FindAllStringSubmatch(string(data), -1) {
		listed = append(listed, m[1])
	}
	there, err := filepath.Glob("docs/decisions/[0-9]*.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range there {
		there[i] = filepath.Base(there[i])
	}
	if !slices.Equal(listed, there) {
		t.Errorf("docs/decisions/README.md lists %v, there are %v", listed, there)
	}
}

// TestLibrariesAreExplained wants a row of README's table for every module that
// go.mod requires and is not there for another's sake.
func TestLibrariesAreExplained(t *testing.T) {
	table := section(t, "README.md", "## Libraries")
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(gomod), -1)
	if len(required) == 0 {
		t.Fatal("go.mod requires nothing")
	}
	for _, m := range required {
		path := strings.TrimSuffix(m[1], "/v2")
		name := regexp.QuoteMeta(path[strings.LastIndexByte(path, '/')+1:])
		if !strings.Contains(table, path) && !regexp.MustCompile(`\b`+name+`\b`).MatchString(table) {
			t.Errorf("README.md: the table of libraries lacks %s", m[1])
		}
	}
}

// TestDocumentsNameTests looks for every test that a document relies on.
func TestDocumentsNameTests(t *testing.T) {
	there := map[string]bool{}
	for _, s := range parseTree(t, token.NewFileSet()) {
		for _, f := range s.files {
			for _, name := range topLevel(f.syntax) {
				there[name] = f.test
			}
		}
	}
	named := regexp.MustCompile(`\b((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(\.\.\.)?`)
	for _, doc := range documents(t) {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(data), -1) {
			if !there[m[1]] && !beginsOne(there, m[1]) {
				t.Errorf("%s: there is no test %s", doc, m[1])
			}
		}
	}
}

// beginsOne reports whether a name is what -run is given: the beginning of one.
func beginsOne(names map[string]bool, begin string) bool {
	for name, test := range names {
		if test && strings.HasPrefix(name, begin) {
			return true
		}
	}
	return false
}

// TestTortureNamesTests looks that every alternative of every part of .ci/torture names a
// test of its packages, and what `make kills` runs a test at all: a pattern that fits
// nothing would pass.
func TestTortureNamesTests(t *testing.T) {
	tests := map[string][]string{} // by directory
	for _, s := range parseTree(t, token.NewFileSet()) {
		for _, f := range s.files {
			for _, name := range topLevel(f.syntax) {
				if f.test && strings.HasPrefix(name, "Test") {
					tests[s.dir] = append(tests[s.dir], name)
				}
			}
		}
	}
	script, err := os.ReadFile(".ci/torture")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^([a-z-]+)\t(\./[^\t]+)\t(\S+)$`).FindAllStringSubmatch(string(script), -1)
	if len(parts) < 10 {
		t.Fatalf(".ci/torture has %d parts", len(parts))
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	kills := regexp.MustCompile(`B9_KILLS=.* -run '([^']+)'`).FindStringSubmatch(strings.ReplaceAll(string(makefile), "$$", "$"))
	if kills == nil {
		t.Fatal("Makefile: there are no kills")
	}
	for _, part := range append(parts, []string{"", "make kills", "./...", kills[1]}) {
		for word := range strings.SplitSeq(part[3], "|") {
			word, _, _ = strings.Cut(word, "/") // parts of a test have names of their own
			if !anyTest(tests, strings.Fields(part[2]), regexp.MustCompile(word)) {
				t.Errorf("%s: no test of %s is named by %q", part[1], part[2], word)
			}
		}
	}
}

// anyTest reports whether a test of the packages, as go test is given them, fits a pattern.
func anyTest(tests map[string][]string, packages []string, pattern *regexp.Regexp) bool {
	for dir, names := range tests {
		for _, p := range packages {
			p, below := strings.CutSuffix(strings.TrimPrefix(p, "./"), "...")
			p = strings.TrimSuffix(p, "/")
			if (dir == p || below && (p == "" || strings.HasPrefix(dir, p+"/"))) && slices.ContainsFunc(names, pattern.MatchString) {
				return true
			}
		}
	}
	return false
}

// TestReadmeIsNarrow keeps README.md readable as it is: lines of prose have at most 120
// columns.
func TestReadmeIsNarrow(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if n := utf8.RuneCountInString(line); n > 120 && !strings.HasPrefix(line, "|") {
			t.Errorf("README.md:%d has %d columns", i+1, n)
		}
	}
}
