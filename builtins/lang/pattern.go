package lang

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// Pattern is what a person asks for: one target, or all targets of one build
// file or of every package below a directory.
type Pattern struct {
	Label     Label // the target; for All its Pkg and File; for Recursive its Pkg
	All       bool  // //pkg:all, every target of the file
	Recursive bool  // //pkg/..., every target of every package from there down
	text      string
	found     []Label // the packages of a recursive pattern, once searched for
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

// ParsePattern reads a label, //..., //pkg/..., //pkg:all, or a plain path
// below dir such as examples/debian.star:disk, examples/debian.star, web
// (which is //web:web) or ./... . dir is slash-separated and below the root.
func ParsePattern(s, dir string) (Pattern, error) {
	p, err := parsePattern(s, dir)
	if err != nil {
		return Pattern{}, fmt.Errorf("bad target %q: %w", s, err)
	}
	p.text = s
	return p, nil
}

func parsePattern(s, dir string) (Pattern, error) {
	where, name, colon := strings.Cut(s, ":")
	if s == "" {
		return Pattern{}, fmt.Errorf("it is empty")
	}
	if strings.HasPrefix(s, "@") {
		return Pattern{}, fmt.Errorf("a library has no targets")
	}
	if !strings.HasPrefix(where, "//") && where != "" {
		rel := path.Join(dir, where)
		if rel == ".." || strings.HasPrefix(rel, "../") || path.IsAbs(where) {
			return Pattern{}, fmt.Errorf("it lies outside the workspace")
		}
		where = "//" + strings.TrimPrefix(rel, ".")
	}
	if below, ok := strings.CutSuffix(where, "..."); ok && !colon && (below == "//" || strings.HasSuffix(below, "/")) {
		pkg := strings.Trim(below, "/")
		return Pattern{Label: Label{Pkg: pkg}, Recursive: true}, checkPackage(pkg)
	}
	if name == "all" {
		return allPattern(where, dir)
	}
	if colon {
		where += ":" + name
	}
	l, err := parseLabel(where, Label{Pkg: dir})
	return Pattern{Label: l}, err
}

func allPattern(where, dir string) (Pattern, error) {
	if where == "" {
		return Pattern{Label: Label{Pkg: dir}, All: true}, nil
	}
	pkg, file, err := splitFile(where[2:])
	return Pattern{Label: Label{Pkg: pkg, File: file}, All: true}, err
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
