package lang

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// targetPattern is what a person asks for: one target, or all targets of one build
// file or of every package below a directory.
type targetPattern struct {
	Label     Label // the target; for All its Pkg and File; for Recursive its Pkg
	All       bool  // //pkg:all, every target of the file
	Recursive bool  // //pkg/..., every target of every package from there down
	text      string
	found     []Label // the packages of a recursive pattern, once searched for
}

// String is the pattern as it was written.
func (p targetPattern) String() string { return p.text }

// parsePattern reads a label, //..., //pkg/..., //pkg:all, or a plain path
// below dir such as examples/debian.star:disk, examples/debian.star, web
// (which is //web:web) or ./... . dir is slash-separated and below the root.
func parsePattern(s, dir string) (targetPattern, error) {
	p, err := readPattern(s, dir)
	if err != nil {
		return targetPattern{}, fmt.Errorf("bad target %q: %w", s, err)
	}
	p.text = s
	return p, nil
}

func readPattern(s, dir string) (targetPattern, error) {
	where, name, colon := strings.Cut(s, ":")
	if s == "" {
		return targetPattern{}, fmt.Errorf("it is empty")
	}
	if strings.HasPrefix(s, "@") {
		return targetPattern{}, fmt.Errorf("a library has no targets")
	}
	if !strings.HasPrefix(where, "//") && where != "" {
		rel := path.Join(dir, where)
		if rel == ".." || strings.HasPrefix(rel, "../") || path.IsAbs(where) {
			return targetPattern{}, fmt.Errorf("it lies outside the workspace")
		}
		where = "//" + strings.TrimPrefix(rel, ".")
	}
	if below, ok := strings.CutSuffix(where, "..."); ok && !colon && (below == "//" || strings.HasSuffix(below, "/")) {
		pkg := strings.Trim(below, "/")
		return targetPattern{Label: Label{Pkg: pkg}, Recursive: true}, checkPackage(pkg)
	}
	if name == "all" {
		return allPattern(where, dir)
	}
	if colon {
		where += ":" + name
	}
	l, err := readLabel(where, Label{Pkg: dir})
	return targetPattern{Label: l}, err
}

func allPattern(where, dir string) (targetPattern, error) {
	if where == "" {
		return targetPattern{Label: Label{Pkg: dir}, All: true}, nil
	}
	pkg, file, err := splitFile(where[2:])
	return targetPattern{Label: Label{Pkg: pkg, File: file}, All: true}, err
}

// Canonical is the label of the one target that a person in a directory means by a word,
// written in full. The directory is slash-separated and below the root. Nothing is looked up.
func Canonical(word, dir string) (string, error) {
	p, err := parsePattern(word, dir)
	if err == nil && (p.All || p.Recursive) {
		err = fmt.Errorf("%s names several targets", word)
	}
	return p.Label.String(), err
}

// belowRoot turns a path that a person typed into one below the root, so that
// absolute paths, which shells complete, are understood too.
func belowRoot(s, root string) string {
	if !filepath.IsAbs(s) || strings.HasPrefix(s, "//") {
		return s
	}
	file, name, colon := strings.Cut(s, ":")
	rel, err := filepath.Rel(root, file)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return s
	}
	if rel == "." {
		rel = ""
	}
	if colon {
		return "//" + filepath.ToSlash(rel) + ":" + name
	}
	return "//" + filepath.ToSlash(rel)
}
