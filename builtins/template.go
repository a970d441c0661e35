package builtins

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content/template"
)

func templateOperation() lang.Operation {
	return lang.Operation{
		Name: "template",
		Doc: "a file made from a text in which every ${name} is replaced by a value\n\n" +
			"$${ stands for a literal ${, and everything else for itself. A name without a value is an error, at its place in the template; " +
			"one that is given and stands nowhere is a warning.",
		Positional: 2,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "src", Type: lang.File, Doc: "the template; exactly one of src and content is given"},
			{Name: "content", Type: lang.String, Doc: "the template as text"},
			{Name: "vars", Type: lang.DictOf(lang.String | lang.Int | lang.Float | lang.File), Doc: "the values by name: strings, numbers, or handles of files, whose text is the value"},
			keepParam(),
			{Name: "mode", Type: lang.String | lang.Int, Default: starlark.String("0644"), Doc: `permission bits, in octal: "0755" or 0o755`},
		},
		Example: `template(name = "app.cfg", src = "app.cfg.in", vars = {"host": "db1", "port": 5432})`,
		Make:    makeTemplate,
	}
}

func makeTemplate(c *lang.Call) (lang.Step, error) {
	if c.Given("content") == c.Given("src") {
		c.Errorf("give exactly one of src and content")
	}
	a := &expandTemplate{Content: c.String("content"), Vars: map[string]string{}, Keep: readKeep(c), Mode: readMode(c, "mode")}
	var inputs []lang.StepInput
	if c.Given("src") {
		inputs = append(inputs, lang.StepInput{Role: "src", From: c.Input("src")})
	}
	for _, e := range c.Entries("vars") {
		checkVariable(c, "vars", e.Key)
		if _, ok := e.Value.(*lang.Handle); ok {
			inputs = append(inputs, lang.StepInput{Role: varRole(e.Key), From: c.Operand(e.Value, lang.File, "vars: "+e.Key)})
			a.Texts = append(a.Texts, e.Key)
			continue
		}
		a.Vars[e.Key] = lang.Text(e.Value)
	}
	if c.Given("content") {
		if err := a.check(unknownTexts()); err != nil {
			c.Errorf("%w", err)
		}
	}
	return lang.Step{Action: a, Inputs: inputs, Outputs: lang.ModedFile("", a.Mode), Finish: a.finish}, nil
}

func varRole(name string) string { return "var:" + name }

// finish checks a template that is a source file before anything is built.
func (a *expandTemplate) finish(l *lang.Linked) error {
	a.Name = l.SourceName("src")
	tmpl, err := a.checked(linkedTexts(l))
	if err == nil && tmpl != nil {
		warnUnused(l, a.names(), tmpl.Names())
	}
	return err
}

// names are those that have values.
func (a *expandTemplate) names() []string {
	return append(slices.Collect(maps.Keys(a.Vars)), a.Texts...)
}

// check finds the mistakes of a template whose text is known.
func (a *expandTemplate) check(t texts) error {
	_, err := a.checked(t)
	return err
}

// checked is a template without mistakes; nil is one that is not known yet.
func (a *expandTemplate) checked(t texts) (*template.Text, error) {
	tmpl, err := a.parse(t)
	if err != nil || tmpl == nil {
		return nil, err
	}
	return tmpl, tmpl.Check(a.names())
}

// parse reads the template; nil is one that is not known yet.
func (a *expandTemplate) parse(t texts) (*template.Text, error) {
	if a.Name == "" {
		return template.Parse("content", a.Content, a.Keep)
	}
	text, known, err := t.read("src")
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", a.Name, err)
	}
	if !known {
		return nil, nil
	}
	return template.Parse(a.Name, text, a.Keep)
}

// expandTemplate expands Content, or the input src if there is one.
type expandTemplate struct {
	Content string
	Vars    map[string]string
	Keep    []string // the names that are left as they are
	Texts   []string `param:"vars"` // the names whose values are the texts of inputs
	Mode    uint32
	Name    string `key:"-"` // of the file that is the input, for messages
}

// Kind implements engine.Action.
func (a *expandTemplate) Kind() string { return "template/2" }

// Run implements engine.Action.
func (a *expandTemplate) Run(_ context.Context, job *engine.Job) error {
	t, err := a.parse(runTexts(job))
	if err != nil {
		return err
	}
	values := maps.Clone(a.Vars)
	for _, name := range a.Texts {
		if values[name], err = lang.InputText(job, varRole(name)); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return err
	}
	return writeText(job, out.Bytes(), a.Mode)
}
