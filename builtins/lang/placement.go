package lang

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

// Where results go
//
// The results of //pkg:name go to pkg/name. What one is called does not depend on which
// others there are, so that one more output, format or member of a group moves none: an
// output goes to pkg/name with the ending of its format, or, where it says so
// (engine.Output.Beneath), to pkg/name/OUTPUT. The parameter place chooses among the
// outputs of a step, and out says for some of them where below pkg they go instead.

// Placement is one result of a target and where it goes.
type Placement struct {
	Ref   engine.Ref
	Label string // of the target that makes it
	Path  string // slash-separated, beneath the output directory
	Mode  uint32 // permission bits of a file; 0 leaves them to the placer
}

// Placements lists the results that are placed when the target is built. Members of
// a group go where they go without it; a step in it that has no name goes beneath the
// group, by its number there.
func (t *Target) Placements() []Placement { return t.placed }

// Wanted lists the outputs that are placed when the target is built; all of them where
// none is.
func (t *Target) Wanted() []engine.Ref {
	if len(t.placed) == 0 {
		return t.Refs
	}
	refs := make([]engine.Ref, len(t.placed))
	for i, p := range t.placed {
		refs[i] = p.Ref
	}
	return refs
}

// Placements lists those of the targets, each once: one may be asked for as itself and
// in a group. Two that would be in each other's way are an error.
func (g *Graph) Placements() ([]Placement, error) {
	var all []Placement
	at := map[string]Placement{}
	for _, t := range g.Targets {
		for _, p := range t.placed {
			if have, ok := at[p.Path]; !ok {
				at[p.Path] = p
				all = append(all, p)
			} else if have.Ref != p.Ref {
				return nil, fmt.Errorf("%s and %s would both be placed as %s: give one of them another out=", have.Ref, p.Ref, p.Path)
			}
		}
	}
	for _, p := range all {
		for up := path.Dir(p.Path); up != "."; up = path.Dir(up) {
			if around, ok := at[up]; ok {
				return nil, fmt.Errorf("%s would be placed as %s, within %s: give one of them another out=", p.Ref, p.Path, around.Ref)
			}
		}
	}
	return all, nil
}

// chosen is what a call says about the placing of its results.
type chosen struct {
	place []string          // names of outputs; nil is all
	out   map[string]string // path beneath the package's directory, by output
}

// chooseResults reads the parameters place and out.
func (c *Call) chooseResults(d *declaration) {
	if !c.Given("place") && !c.Given("out") {
		return
	}
	switch {
	case d.name == "":
		c.Errorf("place and out are for targets: give it a name")
		return
	case len(d.step.Group) > 0:
		c.Errorf("a group has no results of its own: place and out are for the steps in it")
		return
	}
	d.says().chosen = &chosen{out: map[string]string{}}
	if c.Given("place") {
		d.seldom.chosen.place = c.Strings("place")
	}
	for i, name := range d.seldom.chosen.place {
		if _, ok := d.output(name); !ok {
			c.Errorf("place: %s", d.noOutput(name))
		} else if slices.Contains(d.seldom.chosen.place[:i], name) {
			c.Errorf("place: %q is given twice", name)
		}
	}
	if c.Given("out") && !c.Failed() {
		c.readOut(d)
	}
}

// readOut reads the parameter out: a path for one output, or paths by output.
func (c *Call) readOut(d *declaration) {
	if p, ok := c.Value("out").(starlark.String); ok {
		name, err := d.chief()
		if err != nil {
			c.Errorf("out: %w", err)
			return
		}
		d.seldom.chosen.out[name] = string(p)
	}
	for _, e := range c.Entries("out") {
		if _, ok := d.output(e.Key); !ok {
			c.Errorf("out: %s", d.noOutput(e.Key))
		} else if !d.places(e.Key) {
			c.Errorf("out: %q is not placed: add it to place=", e.Key)
		}
		d.seldom.chosen.out[e.Key], _ = starlark.AsString(e.Value) // as its type was checked
	}
	for _, name := range slices.Sorted(maps.Keys(d.seldom.chosen.out)) {
		if err := checkOut(d.seldom.chosen.out[name]); err != nil {
			c.Errorf("out: %w", err)
		}
	}
}

// chief is the output that one path is for: the first that is placed by name, else the
// one that goes to the target's own path.
func (d *declaration) chief() (string, error) {
	if place := d.said().chosen.place; place != nil {
		if len(place) == 0 {
			return "", errors.New("nothing is placed, as place=[] says")
		}
		return place[0], nil
	}
	var own []string
	for _, out := range d.step.Outputs {
		if !out.Beneath {
			own = append(own, out.Name)
		}
	}
	if len(own) != 1 {
		names := d.outputNames()
		return "", fmt.Errorf("the step has the outputs %s: say for which, as in out={%q: %q}", strings.Join(names, ", "), names[0], "PATH")
	}
	return own[0], nil
}

// checkOut refuses what is no path of a result.
func checkOut(p string) error {
	switch {
	case p == "" || !filepath.IsLocal(p) || path.Clean(p) != p || p == ".":
		return fmt.Errorf("%q is no path beneath the package's directory of results, such as vm/0.raw", p)
	case p[0] == '.':
		return fmt.Errorf("%q begins with a dot, as what b9 keeps beside results does", p)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q has a control character", p)
	}
	return nil
}

// places reports whether the output is placed when the target is built.
func (d *declaration) places(output string) bool {
	c := d.said().chosen
	return c == nil || c.place == nil || slices.Contains(c.place, output)
}

// placements lists where the results of a finished step go. One that has no name has
// no place of its own.
func (d *declaration) placements() []Placement {
	base, ok := d.resultPath()
	if !ok {
		return nil
	}
	return d.placedAt(d.link.node.Label(), base, d.places)
}

// resultPath is where the results of a target or a source file go, without an ending.
func (d *declaration) resultPath() (string, bool) {
	if d.name != "" {
		return d.label().outputPath(), true
	}
	if d.source == nil {
		return "", false
	}
	l, err := parseLabel(d.source.label, Label{})
	return l.outputPath(), err == nil
}

// placedAt lists those outputs that are wanted, for the target of that label and path.
func (d *declaration) placedAt(label, base string, wanted func(output string) bool) []Placement {
	var list []Placement
	for _, out := range d.link.node.Outputs() {
		if !wanted(out.Name) {
			continue
		}
		p := Placement{Ref: d.link.node.Ref(out.Name), Label: label, Path: outputPath(base, out), Mode: out.Mode}
		if c := d.said().chosen; c != nil && c.out[out.Name] != "" {
			p.Path = path.Join(d.label().directory(), c.out[out.Name])
		}
		list = append(list, p)
	}
	return list
}

// groupPlacements lists where the results of a group's members go, each once. An output
// that the group names is placed whatever its step says.
func (d *declaration) groupPlacements() []Placement {
	var list []Placement
	for i, in := range d.step.Group {
		from := in.decl
		placed := from.link.target.placed
		if from.link.node != nil {
			label := from.link.node.Label()
			base, ok := from.resultPath()
			if !ok {
				label, base = d.label().String(), path.Join(d.label().outputPath(), fmt.Sprint(i+1))
			}
			placed = from.placedAt(label, base, func(output string) bool {
				return output == in.output || in.output == "" && from.places(output)
			})
		}
		for _, p := range placed {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// directory is where the results of the label's package, or other build file, go.
func (l Label) directory() string { return path.Join(l.Root, l.Pkg, l.File) }

// outputPath is where a target goes, without an ending.
func (l Label) outputPath() string { return path.Join(l.directory(), l.Name) }

func outputPath(base string, out engine.Output) string {
	if out.Beneath {
		base = path.Join(base, outputName(out.Name))
	}
	if ext := out.Ext; ext != "" && path.Ext(base) != "."+ext {
		base += "." + ext
	}
	return base
}

// outputName turns an output's name, such as the mount point "/srv/www", into
// a file name, here "srv-www". Different names stay different.
func outputName(name string) string {
	return strings.NewReplacer("%", "%25", "-", "%2D", "/", "-").Replace(strings.TrimPrefix(name, "/"))
}

// Arch is the architecture that commands in the target run with: that of the
// step nearest to it that has one, else "".
func (t *Target) Arch() string {
	nodes := engine.Reachable(t.Refs...)
	for _, n := range slices.Backward(nodes) {
		if m, ok := n.Action().(engine.OfMachine); ok {
			return m.Machine()
		}
	}
	return ""
}

// Leftover says why what earlier builds placed is no result any more.
type Leftover int

const (
	Gone  Leftover = iota + 1 // there is no such target
	Moved                     // the results of the target go elsewhere
)

// Leftovers tells which of the results that were placed, labels by path, are none any
// more, as far as the calls so far have found out: a file that they did not evaluate is
// asked no more than whether it is there.
func (w *Workspace) Leftovers(placed map[string]string) map[string]Leftover {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	live := w.live()
	there := map[string]bool{}
	left := map[string]Leftover{}
	for path, label := range placed {
		l, err := parseLabel(label, Label{})
		if err != nil || live[path] || l.Root != "" || strings.Contains(label, " ") {
			continue
		}
		if why := w.leftover(l, there); why != 0 {
			left[path] = why
		}
	}
	return left
}

// live is where results of the targets go that were linked.
func (w *Workspace) live() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := map[string]bool{}
	for _, m := range w.modules {
		if !m.ended() {
			continue
		}
		m.placed(func(p Placement) { live[p.Path] = true })
	}
	return live
}

// leftover says why a target has no result at a path where none of the linked ones has
// one. there is what was found out about files that were not evaluated.
func (w *Workspace) leftover(l Label, there map[string]bool) Leftover {
	id := l.file()
	m := w.loaded(id)
	if m == nil {
		is, known := there[id]
		if !known {
			_, err := os.Lstat(filepath.Join(w.root, filepath.FromSlash(id)))
			is = !errors.Is(err, fs.ErrNotExist)
			there[id] = is
		}
		_, prefix := w.cfg.Prefixes[l.Pkg+":"] // whose targets belong to no build file
		if is || prefix || w.isSource(l) {
			return 0
		}
		return Gone
	}
	f, is := m.fate(l.Name)
	switch {
	case m.failed && !m.missing: // nobody knows
	case !is && !w.isSource(l):
		return Gone
	case f.usable:
		return Moved
	}
	return 0
}

// Everything lists patterns for all targets of all packages, and of the other build files
// that the labels are of and that are there.
func (w *Workspace) Everything(ctx context.Context, labels []string) ([]string, error) {
	found, err := w.packages(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	var patterns []string
	if len(found) > 0 {
		patterns = []string{"//..."}
	}
	for _, text := range labels {
		l, err := parseLabel(text, Label{})
		if err != nil || l.File == "" {
			continue
		}
		all := "//" + l.file() + ":all"
		if _, err := os.Lstat(filepath.Join(w.root, filepath.FromSlash(l.file()))); err == nil && !slices.Contains(patterns, all) {
			patterns = append(patterns, all)
		}
	}
	return patterns, nil
}

// Evaluated reports whether the build file of a label was evaluated.
func (w *Workspace) Evaluated(label string) bool {
	l, err := parseLabel(label, Label{})
	return err == nil && w.loaded(l.file()) != nil
}

// Mistaken reports whether the build file of a label was evaluated, and has mistakes.
func (w *Workspace) Mistaken(label string) bool {
	l, err := parseLabel(label, Label{})
	if err != nil {
		return false
	}
	m := w.loaded(l.file())
	return m != nil && m.failed && !m.missing
}
