package lang

import (
	"errors"
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
	g := globber{m: c.m, pkg: c.m.base.Pkg, include: c.globPatterns("include"), exclude: c.globPatterns("exclude")}
	if c.Failed() {
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

// globPatterns splits patterns into their parts, and checks them.
func (c *Call) globPatterns(param string) [][]string {
	var all [][]string
	for _, p := range c.Strings(param) {
		parts := strings.Split(p, "/")
		if err := CheckGlob(parts); err != nil {
			c.Errorf("%s: bad pattern %q: %w", param, p, err)
		}
		all = append(all, parts)
	}
	return all
}

// CheckGlob says what is wrong with a pattern of glob(), split at its slashes.
func CheckGlob(parts []string) error {
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return errors.New(`it has an empty, "." or ".." part`)
		}
		if _, err := path.Match(part, ""); err != nil {
			return err
		}
		if strings.Contains(part, "**") && part != "**" {
			return errors.New("** must stand alone between slashes")
		}
	}
	return nil
}

type globber struct {
	m                *module
	pkg              string
	include, exclude [][]string
	found            []string
	seen             int
}

// walk looks at the directory rel of the package.
func (g *globber) walk(rel string) error {
	entries, err := os.ReadDir(g.m.reads(path.Join(g.pkg, rel)))
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
		if e.IsDir() && g.enters(name) {
			if err := g.walk(name); err != nil {
				return err
			}
		}
		if g.isFile(name, e) && g.wanted(name) {
			g.found = append(g.found, name)
		}
	}
	return nil
}

// isFile reports whether the entry is a regular file, or a link to one.
func (g *globber) isFile(name string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Type().IsRegular()
	}
	st, err := os.Stat(g.m.reads(path.Join(g.pkg, name)))
	return err == nil && st.Mode().IsRegular()
}

// enters reports whether any pattern can match below the directory.
func (g *globber) enters(dir string) bool {
	if g.m.ws.isResults(path.Join(g.pkg, dir)) {
		return false
	}
	parts := strings.Split(dir, "/")
	return slices.ContainsFunc(g.include, func(pattern []string) bool {
		return slices.Contains(advance(pattern, parts)[:len(pattern)], true)
	})
}

func (g *globber) wanted(name string) bool {
	parts := strings.Split(name, "/")
	match := func(pattern []string) bool { return advance(pattern, parts)[len(pattern)] }
	return slices.ContainsFunc(g.include, match) && !slices.ContainsFunc(g.exclude, match)
}

// advance returns, for each number n, whether the first n parts of the
// pattern can match all the parts of the path. It keeps the set of pattern
// positions that the path so far can be at, so that many ** cost no more than
// few.
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
			case p != "**" && MatchPart(p, part):
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

// MatchPart reports whether the pattern, a part of one between slashes that is not **,
// matches a name.
func MatchPart(pattern, name string) bool {
	if name[0] == '.' && pattern[0] != '.' {
		return false
	}
	ok, _ := path.Match(pattern, name)
	return ok
}
