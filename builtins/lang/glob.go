package lang

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"go.starlark.net/starlark"
)

// maxGlobFiles bounds how many files one glob may look at.
const maxGlobFiles = 200_000

// Glob is the operation glob().
func Glob() Operation {
	return Operation{
		Name: "glob",
		Doc: "the source files of the package that match, as sorted paths relative to it\n\n" +
			"In a pattern * stands for any characters but a slash, ? for one of them, [a-z] for one of a range, and ** for any " +
			"directories. Names that begin with a dot match only patterns that do. Directories, the files of packages " +
			"further down (directories with a B9BUILD.star), of other workspaces, of b9-out, and whatever lies behind a " +
			"link to a directory are never listed. A call that finds nothing is an error unless allow_empty is set.",
		Positional: 2,
		Params: []Param{
			{Name: "include", Type: String | ListOf(String), Required: true, Doc: "patterns of what to list"},
			{Name: "exclude", Type: String | ListOf(String), Doc: "patterns of what to leave out"},
			{Name: "allow_empty", Type: Bool, Doc: "finding nothing is no error"},
		},
		Example: `[template(name = basename(f), src = f, vars = {"host": "db1"}) for f in glob(["conf/**/*.cfg"], exclude = ["conf/old/*"])]`,
		Value:   globValue,
	}
}

func globValue(c *Call) (starlark.Value, error) {
	if c.m.library {
		return nil, fmt.Errorf("a library has no source files: call it from a build file")
	}
	g := globber{ws: c.m.ws, pkg: c.m.base.Pkg}
	for _, p := range c.Strings("include") {
		g.include = append(g.include, c.globPattern("include", p))
	}
	for _, p := range c.Strings("exclude") {
		g.exclude = append(g.exclude, c.globPattern("exclude", p))
	}
	if len(c.errs) > 0 {
		return starlark.None, nil
	}
	if err := g.walk(""); err != nil {
		return nil, err
	}
	slices.Sort(g.found)
	if len(g.found) == 0 && !c.Bool("allow_empty") {
		return nil, fmt.Errorf("no file matches %s: give allow_empty=True if that is no mistake", strings.Join(c.Strings("include"), ", "))
	}
	values := make([]starlark.Value, len(g.found))
	for i, name := range g.found {
		values[i] = starlark.String(name)
	}
	return starlark.NewList(values), nil
}

// globPattern splits a pattern into its parts, and checks them.
func (c *Call) globPattern(param, p string) []string {
	parts := strings.Split(p, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			c.Errorf("%s: bad pattern %q: it has an empty, \".\" or \"..\" part", param, p)
			return nil
		}
		if _, err := path.Match(part, ""); err != nil {
			c.Errorf("%s: bad pattern %q: %w", param, p, err)
			return nil
		}
		if strings.Contains(part, "**") && part != "**" {
			c.Errorf("%s: bad pattern %q: ** must stand alone between slashes", param, p)
			return nil
		}
	}
	return parts
}

type globber struct {
	ws               *Workspace
	pkg              string
	include, exclude [][]string
	found            []string
	seen             int
}

// walk looks at the directory rel of the package.
func (g *globber) walk(rel string) error {
	entries, err := os.ReadDir(g.ws.reads(path.Join(g.pkg, rel)))
	if err != nil {
		return err
	}
	if rel != "" && (hasEntry(entries, BuildFile) || hasEntry(entries, RootFile)) {
		return nil
	}
	if g.seen += len(entries); g.seen > maxGlobFiles {
		return fmt.Errorf("more than %d files to look at: name a directory further down", maxGlobFiles)
	}
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		if e.IsDir() {
			if g.enters(name) {
				if err := g.walk(name); err != nil {
					return err
				}
			}
			continue
		}
		if (e.Type().IsRegular() || g.linkToFile(name, e)) && g.wanted(name) {
			g.found = append(g.found, name)
		}
	}
	return nil
}

func (g *globber) linkToFile(name string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return false
	}
	st, err := os.Stat(g.ws.reads(path.Join(g.pkg, name)))
	return err == nil && st.Mode().IsRegular()
}

// enters reports whether any pattern can match below the directory.
func (g *globber) enters(dir string) bool {
	if g.pkg == "" && dir == OutputDir {
		return false
	}
	parts := strings.Split(dir, "/")
	for _, pattern := range g.include {
		if matchPrefix(pattern, parts) {
			return true
		}
	}
	return false
}

func (g *globber) wanted(name string) bool {
	parts := strings.Split(name, "/")
	match := func(pattern []string) bool { return matchParts(pattern, parts) }
	return slices.ContainsFunc(g.include, match) && !slices.ContainsFunc(g.exclude, match)
}

// matchParts matches a whole path. It keeps the set of pattern positions that
// the path so far can be at, so that many ** cost no more than few.
func matchParts(pattern, parts []string) bool {
	return advance(pattern, parts)[len(pattern)]
}

// matchPrefix reports whether a path that begins with parts can match.
func matchPrefix(pattern, parts []string) bool {
	at := advance(pattern, parts)
	return slices.Contains(at[:len(pattern)], true)
}

// advance returns, for each number n, whether the first n parts of the
// pattern can match all the parts of the path.
func advance(pattern, parts []string) []bool {
	at := make([]bool, len(pattern)+1)
	at[0] = true
	skipStars(pattern, at)
	for _, part := range parts {
		next := make([]bool, len(pattern)+1)
		for i, p := range pattern {
			switch {
			case !at[i]:
			case p == "**" && part[0] != '.':
				next[i] = true
			case p != "**" && matchPart(p, part):
				next[i+1] = true
			}
		}
		at = next
		skipStars(pattern, at)
	}
	return at
}

// skipStars lets ** stand for no directory at all.
func skipStars(pattern []string, at []bool) {
	for i, p := range pattern {
		if at[i] && p == "**" {
			at[i+1] = true
		}
	}
}

func matchPart(pattern, name string) bool {
	if name[0] == '.' && pattern[0] != '.' {
		return false
	}
	ok, _ := path.Match(pattern, name)
	return ok
}
