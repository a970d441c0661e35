package builtins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content"
	"b9.build/b9/engine/content/cloudinit"
	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

// document is a text or value that an operation checks and merges: a file,
// text of several lines, or a value of the build file.
type document struct {
	Role   string // of the input that is the file, if it is one
	Text   string // the text, if it is given inline
	Format string // of the file or text: json, toml, anything else is YAML
	Value  datum  // the value, if its Kind is not ""

	Name string          `key:"-"` // for messages: the parameter, or the file
	At   engine.Position `key:"-"` // of the call
}

// readDocuments takes an argument that is one document or a list of them.
func readDocuments(c *lang.Call, param string) (docs []document, inputs []lang.StepInput, list bool) {
	v := c.Value(param)
	if v == nil {
		return nil, nil, false
	}
	items, list := v.(starlark.Indexable)
	switch v.(type) {
	case starlark.String, starlark.Bytes:
		list = false
	}
	if !list {
		d, in := readDocument(c, param, v)
		return []document{d}, in, false
	}
	for i := range items.Len() {
		d, in := readDocument(c, fmt.Sprintf("%s[%d]", param, i), items.Index(i))
		docs, inputs = append(docs, d), append(inputs, in...)
	}
	return docs, inputs, true
}

// readDocument takes one document. A string of one line is a label or path.
func readDocument(c *lang.Call, name string, v starlark.Value) (document, []lang.StepInput) {
	d := document{Name: name, At: c.Pos()}
	s, isText := v.(starlark.String)
	_, isHandle := v.(*lang.Handle)
	_, isDict := v.(*starlark.Dict)
	switch {
	case isText && strings.Contains(string(s), "\n"):
		d.Text = string(s)
	case isText || isHandle:
		d.Role = name
		return d, []lang.StepInput{{Role: name, From: c.Operand(v, lang.File, name)}}
	case isDict:
		var inputs []lang.StepInput
		d.Value, inputs = embed(c, name, v)
		return d, inputs
	default:
		c.Errorf("%s: want dict, text of several lines, or file (handle, label or path), got %s", name, v.Type())
	}
	return d, nil
}

// nameFiles names the documents that are files after them; how a name ends
// says what format it is in.
func nameFiles(docs []document, l *lang.Linked) {
	for i := range docs {
		if docs[i].Role != "" {
			docs[i].Name = l.SourceName(docs[i].Role)
			out, _ := l.Output(docs[i].Role)
			docs[i].Format = out.Ext
		}
	}
}

// text is the text of a document that is none of values.
func (d *document) text(t texts) (text string, known bool, err error) {
	if d.Role == "" {
		return d.Text, true, nil
	}
	if text, known, err = t.read(d.Role); err != nil {
		err = fmt.Errorf("%s: %w", d.Name, err)
	}
	return text, known, err
}

// read parses the document; nil is one whose text is not known yet.
func (d *document) read(t texts) (*yaml.Document, error) {
	if d.Value.Kind != "" {
		root, err := d.Value.node(d.At, t)
		if err != nil {
			return nil, err
		}
		return &yaml.Document{Root: root}, nil
	}
	text, known, err := d.text(t)
	if t.vars != nil && !known {
		t.vars.unread = true
	}
	if err != nil || !known {
		return nil, err
	}
	doc, err := parseDocument(d.Name, text, d.Format)
	if err == nil && t.vars != nil {
		doc.Root, err = content.Expand(doc.Root, t.vars.Variables)
	}
	return doc, err
}

func parseDocument(name, text, format string) (*yaml.Document, error) {
	switch format {
	case "json":
		return yaml.ParseJSON(name, text)
	case "toml":
		return yaml.ParseTOML(name, text)
	}
	return yaml.Parse(name, text)
}

// mergedDocuments is what documents make together.
type mergedDocuments struct {
	root     *yaml.Node // nil where nothing is known yet
	warnings []yaml.Finding
	complete bool // the text of every document is known
}

// mergeAll reads and merges documents, those whose texts are known.
func mergeAll(docs []document, t texts, strategy string) (m mergedDocuments, err error) {
	var roots []*yaml.Node
	var errs []error
	m.complete = true
	for i := range docs {
		d, err := docs[i].read(t)
		switch {
		case err != nil:
			errs = append(errs, err)
		case d == nil:
			m.complete = false
		default:
			roots = append(roots, d.Root)
			m.warnings = append(m.warnings, d.Warnings...)
		}
	}
	if len(errs) > 0 {
		return m, errors.Join(errs...)
	}
	m.root, err = content.Merge(strategy, roots)
	return m, err
}

// ownPlace takes the place of the call off the mistakes that an error joins,
// where it would stand twice, and says instead which parameter is meant.
func ownPlace(err error, at engine.Position, param string) error {
	switch e := err.(type) {
	case *engine.PositionError:
		if e.Position == at {
			return fmt.Errorf("%s: %s", param, e.Msg)
		}
	case interface{ Unwrap() []error }:
		var all []error
		for _, one := range e.Unwrap() {
			all = append(all, ownPlace(one, at, param))
		}
		return errors.Join(all...)
	}
	return err
}

// warn prints the warnings that are not silenced, each with how to silence it.
// Those of what stands in the call begin with the place of the call.
func warn(l *lang.Linked, list []yaml.Finding, silence []string, docs []document) {
	for _, f := range yaml.Silence(list, silence) {
		text := "warning: " + strings.TrimPrefix(f.Error(), f.At.String()+": ")
		here := l.Pos()
		switch {
		case f.At.File == here.File && f.At.Line == here.Line:
			text = fmt.Sprintf("%s: %s(): %s", f.At, l.Operation(), text)
		case slices.ContainsFunc(docs, func(d document) bool { return d.holds(f.At) }):
			text = fmt.Sprintf("%s: %s(): %s: %s", here, l.Operation(), f.At, text)
		default:
			text = f.At.String() + ": " + text
		}
		l.Warnf("%s (silence = [%q] hides it)", text, f.Name)
	}
}

// holds reports whether a place is in a text that is given in the call.
func (d *document) holds(at engine.Position) bool {
	rest, ok := strings.CutPrefix(at.File, d.Name)
	return ok && d.Role == "" && d.Value.Kind == "" && (rest == "" || rest[0] == ':')
}

// addMistakes records every line of an error as a mistake of its own.
func addMistakes(c *lang.Call, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		c.Errorf("%s", line)
	}
}

// silenced reads the names of findings that are not to be reported.
func silenced(c *lang.Call, param string) []string {
	names := c.Strings(param)
	known := cloudinit.FindingNames()
	for _, name := range names {
		if kind, _, _ := strings.Cut(name, ":"); !slices.Contains(known, kind) {
			c.Errorf("%s", lang.Suggest(fmt.Sprintf("%s: unknown warning %q (%s)", param, name, lang.Listed(known)), kind, known))
		}
	}
	return names
}

// readStrategy reads the name of a way to merge.
func readStrategy(c *lang.Call, param string) string {
	s := c.String(param)
	if err := content.CheckStrategy(s); err != nil {
		c.Errorf("%s: %w%s", param, err, near.Hint(s, content.Strategies()))
	}
	return s
}

func silenceParam() lang.Param {
	return lang.Param{Name: "silence", Type: lang.ListOf(lang.String), Doc: `findings not to report, by name ("yaml-octal") or name and path ("unknown-key:apt.conf")`}
}

func strategyParam() lang.Param {
	return lang.Param{Name: "strategy", Type: lang.String, Default: starlark.String("strict"),
		Doc: `how to merge: "strict", "original", "cloud-init", or a merge_how of cloud-init such as "list(append)+dict(recurse_list)+str()"`}
}
