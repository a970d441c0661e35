package lang

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// maxMistakes is how many wrong calls one build file may hold before its
// evaluation is given up.
const maxMistakes = 100

// declare records the step that the call asks for. Wrong arguments do not
// stop the evaluation: they are noted, and the call returns a handle that
// later calls accept without a further word, so that one run finds every
// mistake of the file.
func (c *Call) declare() (starlark.Value, error) {
	d := &declaration{m: c.m, op: c.sig.op.Name, doc: c.String("doc"), name: c.String("name")}
	d.handle.decl = d
	c.m.calls++
	d.seq = c.m.calls
	c.locate(d)
	c.nameTarget(d)
	c.tagTarget(d)
	c.keepArguments(d)
	if !c.Failed() {
		step, err := c.sig.op.Make(c)
		if err != nil {
			c.Errorf("%w", err)
		}
		if d.step = step; err == nil {
			c.chooseResults(d)
		}
	}
	if c.Failed() {
		d.poisoned, d.step = true, Step{}
		if err := c.note(); err != nil {
			return nil, err
		}
	}
	return &d.handle, nil
}

// locate records where the call is.
func (c *Call) locate(d *declaration) {
	if c.thread.CallStackDepth() == 2 {
		d.stack = []engine.Position{c.pos}
		return
	}
	for _, f := range framesOf(c.thread.CallStack()) {
		d.stack = append(d.stack, f.Pos)
	}
}

// note records the mistakes of the call with the module.
func (c *Call) note() error {
	stack := framesOf(c.thread.CallStack())
	for _, msg := range c.errs {
		c.m.errs = append(c.m.errs, &Error{Pos: c.pos, Stack: stack, Msg: msg})
	}
	if len(c.m.errs) > maxMistakes {
		return fmt.Errorf("%s: too many mistakes", c.m.id)
	}
	return nil
}

// nameTarget checks the name and makes the step a target of its build file.
func (c *Call) nameTarget(d *declaration) {
	c.readVisibility(d)
	if !c.Given("name") {
		c.m.unnamed = append(c.m.unnamed, d)
		if d.said().visibility != nil {
			c.Errorf("visibility is only for targets: give it a name")
		}
		return
	}
	if err := checkTargetName(d.name); err != nil {
		c.Errorf("%w", err)
		d.name = ""
		return
	}
	if c.m.library {
		c.Errorf("a rule library has no targets: call it without a name, or from a function")
		d.name = ""
		return
	}
	if other := c.m.targets[d.name]; other != nil {
		c.Errorf("there is a target %q already, made at %s: give one of them another name", d.name, other.pos())
		return
	}
	c.m.addTarget(d)
}

// visibilityRule lets a package, or everything from a directory down, refer to a target.
type visibilityRule struct {
	pkg   string
	below bool
}

func (c *Call) readVisibility(d *declaration) {
	if !c.Given("visibility") {
		if strings.HasPrefix(d.name, "_") {
			d.says().visibility = []visibilityRule{{pkg: c.m.base.Pkg}}
		}
		return
	}
	rules := []visibilityRule{}
	for _, s := range c.Strings("visibility") {
		rule, err := parseVisibility(s, c.m.base.Pkg)
		if err != nil {
			c.Errorf("visibility: %w", err)
		}
		rules = append(rules, rule)
	}
	d.says().visibility = rules
}

func parseVisibility(s, pkg string) (visibilityRule, error) {
	switch s {
	case "public":
		return visibilityRule{below: true}, nil
	case "private":
		return visibilityRule{pkg: pkg}, nil
	}
	p, ok := strings.CutPrefix(s, "//")
	if !ok {
		return visibilityRule{}, fmt.Errorf(`unknown visibility %q (have "public", "private", "//pkg", "//pkg/...")`, s)
	}
	rule := visibilityRule{pkg: p}
	if p == "..." {
		return visibilityRule{below: true}, nil
	}
	if head, ok := strings.CutSuffix(p, "/..."); ok {
		rule = visibilityRule{pkg: head, below: true}
	}
	return rule, checkPackage(rule.pkg)
}

// visibleFrom reports whether build files of the package may name the target.
func (d *declaration) visibleFrom(pkg string) bool {
	rules := d.said().visibility
	if rules == nil || d.m.base.Pkg == pkg {
		return true
	}
	for _, r := range rules {
		if r.pkg == pkg || r.below && (r.pkg == "" || strings.HasPrefix(pkg, r.pkg+"/")) {
			return true
		}
	}
	return false
}

// checkKind tells why an output cannot be what the parameter wants.
func (in *Input) checkKind(out engine.Output) error {
	switch {
	case in.want&File == 0 && out.Kind == store.File:
		return fmt.Errorf("%s is a file, want a directory", in.decl.describe())
	case in.want&Tree == 0 && out.Kind == store.Tree:
		return fmt.Errorf("%s is a directory, want a file", in.decl.describe())
	}
	return nil
}
