package lang

import (
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

// manual is the tag of targets that patterns for several leave out.
const manual = "manual"

// tagTarget reads the tags of a target.
func (c *Call) tagTarget(d *declaration) {
	if !c.Given("tags") {
		return
	}
	if d.name == "" {
		c.Errorf("tags are only for targets: give it a name")
		return
	}
	d.says().tags = c.Strings("tags")
	for _, tag := range d.said().tags {
		if err := checkTag(tag); err != nil {
			c.Errorf("tags: %w", err)
		}
	}
}

// checkTag tells whether a tag may have the name, which is also a word of --tags.
func checkTag(tag string) error {
	if err := checkTargetName(tag); err != nil {
		return fmt.Errorf("bad tag %q: use letters, digits and . _ + - = @ ~, and begin with a letter, digit or underscore", tag)
	}
	return nil
}

// wildcard returns those of the targets that a pattern for several stands for.
func (w *Workspace) wildcard(targets []*declaration) []*declaration {
	if !slices.ContainsFunc(targets, w.unwanted) {
		return targets
	}
	w.partial = true
	return slices.DeleteFunc(slices.Clone(targets), w.unwanted)
}

// Partial reports whether patterns for several targets left some out.
func (w *Workspace) Partial() bool {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	return w.partial
}

func (w *Workspace) unwanted(d *declaration) bool {
	if !w.cfg.Manual && slices.Contains(d.said().tags, manual) && !slices.Contains(w.cfg.Tags, manual) {
		return true
	}
	wanted, found := false, false
	for _, tag := range w.cfg.Tags {
		if without, ok := strings.CutPrefix(tag, "-"); ok {
			if slices.Contains(d.said().tags, without) {
				return true
			}
			continue
		}
		wanted, found = true, found || slices.Contains(d.said().tags, tag)
	}
	return wanted && !found
}

// CheckTags refuses words that no tag can be.
func CheckTags(tags []string) error {
	for _, tag := range tags {
		if err := checkTag(strings.TrimPrefix(tag, "-")); err != nil {
			return err
		}
	}
	return nil
}

// arguments are what a call was given.
type arguments struct {
	names  []string
	values []starlark.Value // nil for what is absent and has no default
}

func (c *Call) keepArguments(d *declaration) {
	if c.m.ws.cfg.Arguments {
		d.says().args = &arguments{c.sig.names, slices.Clone(c.values)}
	}
}

// Argument is what a call was given for a parameter, or its default.
type Argument struct{ Name, Value string }

// Arguments are those of the call that made the target, in the order of the parameters:
// a text as it is, other values as they are written. It needs [Config.Arguments].
func (t *Target) Arguments() (list []Argument) {
	if t.decl.said().args == nil {
		return nil
	}
	for i, v := range t.decl.said().args.values {
		if v != nil && v != starlark.None {
			list = append(list, Argument{t.decl.said().args.names[i], Text(v)})
		}
	}
	return list
}

// Given lists what the parameter of the call that made the target was given for inputs:
// targets, unnamed steps and source files.
func (t *Target) Given(param string) (list []*Target) {
	for in := range t.decl.inputs() {
		if rest, ok := strings.CutPrefix(in.param, param); ok && (rest == "" || strings.IndexByte("[:.", rest[0]) >= 0) && in.decl != nil {
			list = append(list, &in.decl.link.target)
		}
	}
	return list
}

// Direct lists what the target needs directly, in the order of its inputs.
func (t *Target) Direct() (list []*Target) {
	for in := range t.decl.inputs() {
		if in.decl != nil {
			list = append(list, &in.decl.link.target)
		}
	}
	return list
}

// Tags are those of the call that made the target.
func (t *Target) Tags() []string { return t.decl.said().tags }

// Calls are the calls that made the target: in the build file first, then its callers.
func (t *Target) Calls() []engine.Position { return t.decl.stack }

// Source is the path of a source file or directory, slash-separated below the root of
// the workspace; ok is false for what is none.
func (t *Target) Source() (path string, ok bool) {
	if t.decl.source == nil || !strings.HasPrefix(t.Title, "//") {
		return "", false
	}
	return strings.TrimPrefix(strings.Replace(t.Title[2:], ":", "/", 1), "/"), true
}

// DeclaredOption is an option that build files declare.
type DeclaredOption struct {
	Name, Type, Help string
	Default          string // as -D would give it; "" for none
	Choices          []string
	Position         engine.Position // of its first declaration
}

// Options lists the options of the build files that were evaluated, by name.
func (w *Workspace) Options() []DeclaredOption {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []DeclaredOption
	for _, o := range w.options {
		list = append(list, DeclaredOption{o.name, o.kind, o.help, o.standard, o.choices, o.at})
	}
	slices.SortFunc(list, func(a, b DeclaredOption) int { return strings.Compare(a.Name, b.Name) })
	return list
}
