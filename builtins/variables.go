package builtins

import (
	"fmt"
	"maps"
	"slices"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content"
	"b9.build/b9/engine/content/template"
	"b9.build/b9/engine/content/yaml"
)

// varsParam and keepParam are the parameters of an operation that puts values in the
// place of ${name}.
func varsParam(doc string) lang.Param {
	return lang.Param{Name: "vars", Type: lang.DictOf(lang.Value), Doc: doc}
}

func keepParam() lang.Param {
	return lang.Param{Name: "keep", Type: lang.ListOf(lang.String), Doc: "names that are left as they are, as ${NAME}, ${NAME:-default} and so on, for what reads the file"}
}

// readKeep reads the names that are left as they are.
func readKeep(c *lang.Call) []string {
	names := c.Strings("keep")
	for _, name := range names {
		checkVariable(c, "keep", name)
	}
	return names
}

func checkVariable(c *lang.Call, param, name string) {
	if !template.IsName(name) {
		c.Errorf("%s: bad name %q: %s", param, name, template.NameRule)
	}
}

// given is what a call gives to be put in the place of ${name}, as its action keeps it.
type given struct {
	Names  []string
	Values []datum
	Keep   []string
	Any    bool // vars or keep is given: without them ${ has no meaning
}

// readVariables takes vars and keep.
func readVariables(c *lang.Call) (g given, inputs []lang.StepInput) {
	g = given{Keep: readKeep(c), Any: c.Given("vars") || c.Given("keep")}
	for _, e := range c.Entries("vars") {
		checkVariable(c, "vars", e.Key)
		v, in := embed(c, fmt.Sprintf("vars[%q]", e.Key), e.Value)
		g.Names, g.Values = append(g.Names, e.Key), append(g.Values, v)
		inputs = append(inputs, in...)
	}
	return g, inputs
}

// variables puts values in the place of ${name} in documents, and notes which were.
type variables struct {
	content.Variables
	unread bool // there was a document whose text is not known yet
}

// with returns texts in whose documents ${name} is replaced.
func (g given) with(t texts, at engine.Position) (texts, error) {
	if !g.Any {
		return t, nil
	}
	v := &variables{Variables: content.Variables{Values: map[string]*yaml.Node{}, Keep: g.Keep, Used: map[string]bool{}}}
	for i, name := range g.Names {
		n, err := g.Values[i].node(at, t)
		if err != nil {
			return t, err
		}
		v.Values[name] = n
	}
	t.vars = v
	return t, nil
}

// warnUnused warns about names that were given and stand nowhere, if all is known.
func (g given) warnUnused(l *lang.Linked, t texts) {
	if t.vars != nil && !t.vars.unread {
		warnUnused(l, g.Names, slices.Collect(maps.Keys(t.vars.Used)))
	}
}

func warnUnused(l *lang.Linked, names, used []string) {
	for _, name := range template.Unused(names, used) {
		l.Warnf("%s: %s(): warning: vars: ${%s} stands nowhere", l.Pos(), l.Operation(), name)
	}
}
