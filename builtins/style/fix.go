package style

import (
	"github.com/bazelbuild/buildtools/build"
)

// WithoutUnusedLoads is the file without the loads that nothing uses, laid out: as it was
// where there are none. The error is a [lang.Errors] for mistakes in the language.
func (c *Checker) WithoutUnusedLoads(f *File) ([]byte, error) {
	tree, err := c.parse(f)
	if err != nil {
		return nil, err
	}
	l := newListing(c, f, tree)
	unused := map[string]bool{}
	for _, id := range l.order {
		if first, _ := scope(id); l.bound[id] == byLoad && l.uses[first] == 0 {
			unused[id.Name] = true
		}
	}
	if len(unused) == 0 {
		return f.Data, nil
	}
	return withoutLoads(f, unused)
}

// withoutLoads is the file laid out, without these names in its loads.
func withoutLoads(f *File, names map[string]bool) ([]byte, error) {
	parsed, err := build.ParseDefault(f.Name, f.Data)
	if err != nil {
		return nil, err
	}
	var rest []build.Expr
	for _, s := range parsed.Stmt {
		if load, ok := s.(*build.LoadStmt); ok && !prune(load, names) {
			continue
		}
		rest = append(rest, s)
	}
	parsed.Stmt = rest
	return Format(f.Name, build.FormatWithoutRewriting(parsed))
}

// prune takes names out of a load, and reports whether any are left.
func prune(load *build.LoadStmt, names map[string]bool) bool {
	var from, to []*build.Ident
	for i, id := range load.To {
		if !names[id.Name] {
			from, to = append(from, load.From[i]), append(to, id)
		}
	}
	load.From, load.To = from, to
	return len(to) > 0
}
