package lang

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/engine/near"
)

// targetPattern is what a person asks for: one target, or all targets of one build
// file or of every package below a directory.
type targetPattern struct {
	Label     Label // the target; for All its Pkg and File; for Recursive its Pkg
	All       bool  // //pkg:all, every target of the file
	Recursive bool  // //pkg/..., every target of every package from there down
	Without   bool  // -//pkg:x, what the patterns before are not to stand for
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

// What was meant by a label, a pattern or a load() that names nothing: other ways to
// write the same words are tried, and the first that names something is suggested. To
// look it up no further file is evaluated, since its own mistakes would be reported then:
// of a file that is not loaded the names count that its text gives to targets.

// exists reports whether the label names a target, or a file, that files of the package
// may use.
func (w *Workspace) exists(l Label, from string) bool {
	return l.Root == "" && l.Name != "" && (l.File == "" && w.isSource(l) || w.hasTarget(l, from))
}

// hasTarget reports whether the label names a target that files of the package may use.
func (w *Workspace) hasTarget(l Label, from string) bool {
	if m := w.loaded(l.file()); m != nil {
		d, err := w.target(m, l)
		return err == nil && d.source == nil && d.visibleFrom(from)
	}
	return l.Name != "" && slices.Contains(w.namesIn(l.file()), l.Name)
}

// labelMeant is the label that a string of a build file most likely stands for which
// names no source file, or "".
func (w *Workspace) labelMeant(s string, base Label) string {
	clean := strings.Trim(s, "/")
	within := strings.TrimPrefix(path.Join("/", base.Pkg), "/")
	candidates := []string{":" + clean, "//" + clean, "//" + path.Join(within, clean)}
	if dir, name, ok := cutLast(clean); ok {
		candidates = append(candidates, "//"+dir+":"+name, "//"+path.Join(within, dir)+":"+name)
	}
	candidates = append(candidates, "//:"+clean)
	for _, text := range candidates {
		if l, err := parseLabel(text, base); err == nil && w.exists(l, base.Pkg) {
			return text
		}
	}
	return ""
}

// cutLast splits a path before its last part, if it has no colon.
func cutLast(p string) (dir, name string, ok bool) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 || strings.Contains(p, ":") {
		return "", "", false
	}
	return p[:i], p[i+1:], true
}

// namesIn lists the names that the text of a build file gives to targets.
func (w *Workspace) namesIn(file string) []string {
	src, err := readSource(filepath.Join(w.root, filepath.FromSlash(file)))
	if err != nil {
		return nil
	}
	tree, err := fileOptions().Parse(file, src, 0)
	if err != nil {
		return nil
	}
	return outline.Targets(tree)
}

// patternMeant is the end of an error about a pattern: what was most likely meant, or "".
func (w *Workspace) patternMeant(s string) string {
	for _, text := range w.otherPatterns(s) {
		p, err := parsePattern(text, w.dir)
		if err != nil {
			continue
		}
		found := w.hasTarget(p.Label, p.Label.Pkg)
		switch {
		case p.Recursive:
			list, err := w.packages(context.Background(), p.Label.Pkg, 1)
			found = err == nil && len(list) > 0
		case p.All:
			found = len(w.namesIn(p.Label.file())) > 0
		}
		if found {
			return fmt.Sprintf(": did you mean %q?", text)
		}
	}
	return ""
}

// otherPatterns lists other ways to write a pattern.
func (w *Workspace) otherPatterns(s string) []string {
	if results, ok := strings.CutPrefix(s, outputDir+"/"); ok {
		dir, name, _ := cutLast("/" + results)
		pkg := "//" + strings.TrimPrefix(dir, "/")
		return []string{pkg + ":" + name, pkg + ":" + strings.TrimSuffix(name, path.Ext(name))}
	}
	var list []string
	if strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		s = "/" + s
		list = append(list, s)
	}
	for _, end := range []string{":*", ":...", ":**", "/*", "/**", "..."} {
		if head, ok := strings.CutSuffix(s, end); ok {
			if strings.HasPrefix(end, ":") {
				return append(list, head+":all")
			}
			return append(list, strings.TrimSuffix(head, "/")+"/...", head+"...")
		}
	}
	trimmed := strings.TrimRight(s, "/:")
	if !strings.ContainsAny(s, "/:") {
		list = append(list, ":"+s)
		if best := near.Match(s, w.namesIn(path.Join(w.dir, BuildFile))); best != "" {
			list = append(list, ":"+best)
		}
	}
	if dir, name, ok := cutLast(trimmed); ok {
		dir = strings.TrimSuffix(dir, "/")
		if dir == "" {
			dir = "//"
		}
		list = append(list, dir+":"+name)
	}
	if trimmed != s {
		list = append(list, trimmed)
	}
	return list
}

// isFunction recognises a query such as deps(//x).
var isFunction = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z_]+)\(.*\)$`) })

// functionAsked is what is wrong with a pattern that is written like a query, or "".
func functionAsked(pattern string) string {
	m := isFunction().FindStringSubmatch(pattern)
	if m == nil {
		return ""
	}
	return fmt.Sprintf("it is no target: questions such as %s() are for `b9 query`", m[1])
}
