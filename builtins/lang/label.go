package lang

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// BuildFile is the name of the file that makes a directory a package.
const BuildFile = "B9BUILD.star"

// TestSuffix ends the names of files that hold tests of rules.
const TestSuffix = "_test.star"

// Label names a target, or a file of the workspace. Its forms are
//
//	//pkg:name            a target of pkg/B9BUILD.star
//	//pkg                 the same as //pkg:pkg, with the last part of the path
//	//pkg/file.star:name  a target of any build file
//	//pkg/file.star       that file's default target
//	:name                 a target of the file the label is written in
//	//pkg:name[/data]     one output of a step that has several
//	@images//disk.qcow2   a file or directory of the directory that [sources] of b9.toml calls images
//
// where pkg is a slash-separated path below the workspace root, empty for the
// root itself. Where no target has the name, //pkg:some/file is the source
// file pkg/some/file.
type Label struct {
	Root   string // the name in [sources] before "//", where Name is a path then; "" is the workspace
	Pkg    string // slash-separated directory below the root; "" is the root
	File   string // the build file in it; "" stands for B9BUILD.star
	Name   string // "" asks for the default target of File
	Output string // "" asks for the only output
}

// String renders the canonical form, which reads back equal.
func (l Label) String() string {
	if l.Root != "" {
		return "@" + l.Root + "//" + strings.TrimPrefix(l.Name, ".")
	}
	s := "//" + l.Pkg
	if l.File != "" {
		s = "//" + path.Join(l.Pkg, l.File)
	}
	if l.Name != "" {
		s += ":" + l.Name
	}
	if l.Output != "" {
		s += "[" + l.Output + "]"
	}
	return s
}

// file is the path of the build file below the root.
func (l Label) file() string {
	if l.File == "" {
		return path.Join(l.Pkg, BuildFile)
	}
	return path.Join(l.Pkg, l.File)
}

// IsLabel reports whether a string in a build file is meant as a label
// rather than as the path of a source file.
func IsLabel(s string) bool {
	return strings.HasPrefix(s, "//") || strings.HasPrefix(s, ":") || strings.HasPrefix(s, "@")
}

// parseLabel reads a label. A label that begins with a colon belongs to the
// build file base.
func parseLabel(s string, base Label) (Label, error) {
	l, err := readLabel(s, base)
	if err != nil {
		return Label{}, fmt.Errorf("bad label %q: %w", s, err)
	}
	return l, nil
}

func readLabel(s string, base Label) (Label, error) {
	rest, output, err := cutOutput(s)
	if err != nil {
		return Label{}, err
	}
	l := Label{Pkg: base.Pkg, File: base.File, Output: output}
	where, name, colon := strings.Cut(rest, ":")
	switch {
	case strings.HasPrefix(rest, "@"):
		return readSourceLabel(s)
	case strings.HasPrefix(where, "//"):
		if l.Pkg, l.File, err = splitFile(where[2:]); err != nil {
			return Label{}, err
		}
	case where != "" || !colon:
		return Label{}, fmt.Errorf(`a label begins with "//" or ":"`)
	}
	if !colon {
		return l.withDefaultName()
	}
	l.Name = name
	return l, checkLabelName(name)
}

// readSourceLabel reads the label of a file in a directory of [sources].
func readSourceLabel(s string) (Label, error) {
	root, file, ok := strings.Cut(s[1:], "//")
	switch {
	case root+"//" == libraryPrefix[1:]:
		return Label{}, fmt.Errorf("only load() takes the label of a library")
	case !ok || root == "":
		return Label{}, fmt.Errorf(`a label with @ is "@NAME//path", with a name of [sources] in b9.toml`)
	case file == "":
		return Label{Root: root, Name: "."}, nil
	}
	return Label{Root: root, Name: file}, checkPath(file, "path")
}

// withDefaultName completes a label that was written without a colon.
func (l Label) withDefaultName() (Label, error) {
	if l.File != "" {
		return l, nil
	}
	if l.Pkg == "" {
		return Label{}, fmt.Errorf(`a target of the root package needs a name: "//:name"`)
	}
	l.Name = path.Base(l.Pkg)
	return l, checkLabelName(l.Name)
}

// cutOutput splits "x[/data]" into "x" and "/data".
func cutOutput(s string) (rest, output string, err error) {
	if !strings.HasSuffix(s, "]") {
		if strings.Contains(s, "[") {
			return "", "", fmt.Errorf(`"[" without "]" at the end`)
		}
		return s, "", nil
	}
	rest, output, found := strings.Cut(s[:len(s)-1], "[")
	if !found || output == "" || strings.ContainsAny(output, "[]") {
		return "", "", fmt.Errorf(`an output is written as "[/data]" at the end`)
	}
	return rest, output, checkPrintable(output)
}

// splitFile splits "pkg/lib.star" into "pkg" and "lib.star"; a path that does
// not end in .star, and the build file of a package, is the package alone.
func splitFile(p string) (pkg, file string, err error) {
	if err := checkPackage(p); err != nil {
		return "", "", err
	}
	if !strings.HasSuffix(p, ".star") {
		return p, "", nil
	}
	dir, file := path.Split(p)
	if file == BuildFile {
		file = ""
	}
	return strings.TrimSuffix(dir, "/"), file, nil
}

func checkPackage(p string) error {
	if p == "" {
		return nil
	}
	return checkPath(p, "package path")
}

// checkPath refuses whatever could lead out of the root or could not be
// written in a label: empty, "." and ".." parts, backslashes, brackets,
// colons, wildcards and characters that do not print.
func checkPath(p, what string) error {
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "":
			return fmt.Errorf("%s %q has an empty part", what, p)
		case ".", "..":
			return fmt.Errorf("%s %q must not contain %q", what, p, part)
		case "...":
			return fmt.Errorf(`"..." is a pattern and names no single target`)
		}
	}
	if i := strings.IndexAny(p, `\[]:*?"'`); i >= 0 {
		return fmt.Errorf("%s %q must not contain %q", what, p, p[i])
	}
	return checkPrintable(p)
}

func checkPrintable(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("%q contains a character that does not print", s)
	}
	return nil
}

func checkLabelName(name string) error {
	if name == "" {
		return fmt.Errorf(`the name after ":" is missing`)
	}
	return checkPath(name, "name")
}

// checkTargetName tells whether a target may have the name: it becomes a file
// name, so letters, digits and . _ + - = @ ~ only, beginning with a letter,
// digit or underscore, at most 128 bytes, and not "all", which is a pattern.
func checkTargetName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a target's name must not be empty")
	case name == "all":
		return fmt.Errorf(`a target must not be named "all", which stands for every target`)
	case len(name) > 128:
		return fmt.Errorf("the target name %.20q... is longer than 128 bytes", name)
	}
	for i := range len(name) {
		c := name[i]
		plain := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || strings.IndexByte(".+-=@~", c) < 0) {
			return fmt.Errorf("bad target name %q: use letters, digits and . _ + - = @ ~, and begin with a letter, digit or underscore", name)
		}
	}
	return nil
}
