package builtins

import (
	"context"
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content/yaml"
)

func mergeYAMLOperation() lang.Operation {
	return lang.Operation{
		Name: "merge_yaml",
		Doc: `a file merged from YAML, JSON and TOML documents

inputs are files (handles, labels or paths), text of several lines, and dicts, in
which handles of files stand for their texts. YAML means what it means to
cloud-init (PyYAML, YAML 1.1); a scalar that is easily mistaken, such as yes, 0644
or 1:30, gives a warning. A file named .json or .toml is read as that; inline
text is TOML where that is the format.

With vars or keep, ${name} in files and texts stands for the value of that name: alone
in a text it is the value as it is, a dict, list, number or text, and as a part of a
text it is written there. It can add no keys. $${ stands for ${.

strategy "strict" joins mappings recursively, concatenates lists, and refuses two
different values of one key; "original" makes lists of them, and concatenates
texts; "cloud-init" follows each document's merge_how, as cloud-init does with
the parts of user-data. Key order is kept, comments are not.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "inputs", Type: lang.Value, Required: true, Doc: "what to merge, from the first to the last"},
			lang.NameParam(),
			varsParam("the values of ${name} in files and texts: strings, numbers, bools, lists, dicts, and handles of files, whose text is the value"),
			keepParam(),
			strategyParam(),
			{Name: "header", Type: lang.String, Doc: `first line of the file, such as "#cloud-config"`},
			{Name: "format", Type: lang.String, Default: starlark.String("yaml"), Enum: []string{"yaml", "json", "toml"}, Doc: "what to write"},
			{Name: "mode", Type: lang.String | lang.Int, Default: starlark.String("0644"), Doc: `permission bits, in octal: "0755" or 0o755`},
			silenceParam(),
		},
		Example: `merge_yaml(["base.yaml", {"packages": ["nginx"]}], name = "web.yaml", header = "#cloud-config")`,
		Make:    makeMergeYAML,
	}
}

func makeMergeYAML(c *lang.Call) (lang.Step, error) {
	docs, inputs, _ := readDocuments(c, "inputs")
	vars, more := readVariables(c)
	inputs = append(inputs, more...)
	a := &mergeYAML{
		Docs: docs, Vars: vars, Strategy: readStrategy(c, "strategy"), Header: c.String("header"), Format: c.String("format"), Mode: readMode(c, "mode"), Silence: silenced(c, "silence"),
	}
	if strings.Contains(strings.TrimSuffix(a.Header, "\n"), "\n") {
		c.Errorf("header: it has more than one line")
	}
	if a.Header != "" && a.Format == "json" {
		c.Errorf("header: JSON has no comments")
	}
	for i := range docs {
		if docs[i].Text != "" && a.Format == "toml" {
			docs[i].Format = "toml"
		}
	}
	if len(docs) == 0 {
		c.Errorf("inputs: there is nothing to merge")
	}
	if !c.Failed() {
		if _, _, err := a.merge(unknownTexts(), c.Pos(), nil); err != nil {
			addMistakes(c, ownPlace(err, c.Pos(), "inputs"))
		}
	}
	return lang.Step{Action: a, Inputs: inputs, Outputs: lang.ModedFile(a.Format, a.Mode), Finish: checkMergeYAML}, nil
}

// checkMergeYAML merges what is known before anything is built.
func checkMergeYAML(l *lang.Linked) error {
	a := l.Action.(*mergeYAML)
	nameFiles(a.Docs, l)
	_, warnings, err := a.merge(linkedTexts(l), l.Pos(), l)
	if err != nil {
		return ownPlace(err, l.Pos(), "inputs")
	}
	warn(l, warnings, a.Silence, a.Docs)
	return nil
}

// mergeYAML merges documents into one file.
type mergeYAML struct {
	Docs                     []document `param:"inputs"`
	Vars                     given
	Strategy, Header, Format string
	Mode                     uint32
	Silence                  []string
}

// Kind implements engine.Action.
func (a *mergeYAML) Kind() string { return "merge_yaml/3" }

// merge merges the documents whose texts are known, and renders them. Where l is not
// nil, it warns about names that were given in vain.
func (a *mergeYAML) merge(t texts, at engine.Position, l *lang.Linked) (text string, warnings []yaml.Finding, err error) {
	if t, err = a.Vars.with(t, at); err != nil {
		return "", nil, err
	}
	m, err := mergeAll(a.Docs, t, a.Strategy)
	if l != nil && err == nil {
		a.Vars.warnUnused(l, t)
	}
	if err != nil || m.root == nil {
		return "", m.warnings, err
	}
	switch a.Format {
	case "json":
		text, err = m.root.JSON()
	case "toml":
		text, err = m.root.TOML()
	default:
		text, err = m.root.YAML()
	}
	if a.Header != "" {
		text = strings.TrimSuffix(a.Header, "\n") + "\n" + text
	}
	return text, m.warnings, err
}

// Run implements engine.Action.
func (a *mergeYAML) Run(_ context.Context, job *engine.Job) error {
	text, _, err := a.merge(runTexts(job), engine.Position{}, nil)
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return writeText(job, []byte(text), a.Mode)
}
