package builtins

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content/erlang"
)

func erlangConfigOperation() lang.Operation {
	return lang.Operation{
		Name: "erlang_config",
		Doc: `a file of Erlang terms, such as a sys.config, merged from files, text and values

Each input is a file (handle, label or path); text, which has several lines or
ends in a dot; or a value: dicts become property lists with atoms as keys, True, False and
None the atoms true, false and undefined, tuples, lists and numbers what they are in Erlang,
and a handle the text of its file. Files and text hold any literal terms that file:consult/1 reads.
Where a term can stand, ${name} stands for the value of that name, as a term: no
value can break out of its place. Beside a string it is joined with it: "http://" ${host} ":80".
With vars or keep it is replaced inside of strings, too: "http://${host}:80"; a name without a
value is an error there unless it is kept, and $${ stands for ${.

Lists are merged as property lists: tuples {Key, Value} by their keys,
their values in turn; other items are appended. Maps are merged by key. Two values
for one key are an error unless they are equal or strategy says otherwise. The
result is laid out as Erlang's formatter does it.`,
		Positional: 2,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "inputs", Type: lang.ListOf(lang.Value), Required: true, Doc: "what to merge, in order: files, text, values"},
			{Name: "vars", Type: lang.DictOf(lang.Value), Doc: "the values of ${name} in files and text: strings, numbers, dicts, lists, handles of files whose text is meant"},
			keepParam(),
			{Name: "strategy", Type: lang.String, Default: starlark.String("strict"), Enum: erlang.Strategies(), Doc: `two values for one key: "strict": an error; "replace": the later one; "original": a list of both`},
			{Name: "strings", Type: lang.String, Default: starlark.String("string"), Enum: []string{"string", "binary"}, Doc: `what strings among the values and vars become: "string" or "binary"`},
			{Name: "dicts", Type: lang.String, Default: starlark.String("proplist"), Enum: []string{"proplist", "map"}, Doc: `what dicts become: "proplist" or "map"`},
			{Name: "keys", Type: lang.String, Default: starlark.String("atom"), Enum: []string{"atom", "text"}, Doc: `what strings that are keys of dicts become: "atom", or "text": as all strings`},
			{Name: "mode", Type: lang.String | lang.Int, Default: starlark.String("0644"), Doc: `permission bits, in octal: "0755" or 0o755`},
		},
		Example: `erlang_config(name = "sys.config", inputs = ["base.config", {"kernel": {"inet_dist_listen_min": 9100}}], vars = {"host": "db1"})`,
		Make:    makeErlangConfig,
	}
}

func makeErlangConfig(c *lang.Call) (lang.Step, error) {
	a := &erlangConfig{Vars: map[string]string{}, Keep: readKeep(c), Expand: c.Given("vars") || c.Given("keep"), Strategy: c.String("strategy"), Binary: c.String("strings") == "binary", Mode: readMode(c, "mode")}
	s := lang.Step{Action: a, Outputs: lang.ModedFile("", a.Mode), Finish: a.check}
	e := erlConverter{c: c, binary: a.Binary, maps: c.String("dicts") == "map", text: c.String("keys") == "text"}
	for i, v := range c.Elements("inputs") {
		a.Docs = append(a.Docs, e.document(&s, i, v))
	}
	if len(a.Docs) == 0 {
		c.Errorf("inputs is empty")
	}
	for _, v := range c.Entries("vars") {
		checkVariable(c, "vars", v.Key)
		t := e.term(v.Value, fmt.Sprintf("vars[%q]", v.Key))
		a.Vars[v.Key] = erlang.FormatLine(&t) + "."
	}
	a.Texts = len(e.inputs)
	s.Inputs = append(s.Inputs, e.inputs...)
	return s, nil
}

// document enters one input: a file as an input of the step, all else as text.
func (e *erlConverter) document(s *lang.Step, i int, v starlark.Value) erlangText {
	name := fmt.Sprintf("inputs[%d]", i)
	text, isText := v.(starlark.String)
	_, isHandle := v.(*lang.Handle)
	switch {
	case isText && inlineTerms(string(text)):
		if err := engine.CheckText(name, string(text)); err != nil {
			e.c.Errorf("%w", err)
		}
		return erlangText{Name: name, Text: string(text)}
	case isText || isHandle:
		s.Inputs = append(s.Inputs, lang.StepInput{Role: name, From: e.c.Operand(v, lang.File, name)})
		return erlangText{Name: name, Role: name}
	}
	t := e.term(v, name)
	return erlangText{Name: name, Text: string(erlang.Format([]erlang.Term{t})), Value: true}
}

// inlineTerms tells text of terms from the name of a file.
func inlineTerms(s string) bool {
	return strings.Contains(s, "\n") || strings.HasSuffix(strings.TrimSpace(s), ".")
}

// erlangConfig merges texts of Erlang terms. ${0} to ${Texts-1} in the texts
// of values stand for the texts of inputs.
type erlangConfig struct {
	Docs     []erlangText      `param:"inputs"`
	Vars     map[string]string // a term as text, by name
	Keep     []string
	Expand   bool `param:"vars"` // ${name} inside of strings
	Texts    int  `param:"vars"`
	Strategy string
	Binary   bool `param:"strings"` // the texts of inputs become binaries, not strings
	Mode     uint32
}

// erlangText is a text of terms: that of an input, or Text.
type erlangText struct {
	Name  string `key:"-"` // for messages
	Role  string
	Text  string
	Value bool // whether Text was made from a value
}

// Kind implements engine.Action.
func (a *erlangConfig) Kind() string { return "erlang_config/2" }

// check finds the mistakes in source files and text before anything is
// built, and all conflicts where no step has to run first.
func (a *erlangConfig) check(l *lang.Linked) error {
	for i := range a.Docs {
		d := &a.Docs[i]
		if d.Role != "" {
			d.Name = l.SourceName(d.Role)
		}
	}
	used := map[string]bool{}
	terms, err := a.merged(linkedTexts(l), used)
	if err == nil && terms != nil {
		warnUnused(l, slices.Collect(maps.Keys(a.Vars)), slices.Collect(maps.Keys(used)))
	}
	return err
}

// Run implements engine.Action.
func (a *erlangConfig) Run(_ context.Context, job *engine.Job) error {
	terms, err := a.merged(runTexts(job), nil)
	if err != nil {
		return err
	}
	return writeText(job, erlang.Format(terms), a.Mode)
}

// merged reads and merges every text, if all are known. Used gets the names that
// stand in them.
func (a *erlangConfig) merged(t texts, used map[string]bool) ([]erlang.Term, error) {
	values, complete, err := a.embedded(t)
	if err != nil {
		return nil, err
	}
	vars, err := a.variables(values)
	if err != nil {
		return nil, err
	}
	var docs [][]erlang.Term
	o := erlang.Options{Vars: vars, Expand: a.Expand, Keep: a.Keep, Used: used}
	for _, d := range a.Docs {
		terms, known, err := d.parse(t, values, o)
		if err != nil {
			return nil, err
		}
		complete = complete && known
		docs = append(docs, terms)
	}
	if !complete {
		return nil, nil
	}
	return erlang.Merge(docs, a.Strategy)
}

// parse reads a text, if it is known. The values are those of handles inside of
// a value; o is how files and texts are read.
func (d *erlangText) parse(t texts, values map[string]erlang.Term, o erlang.Options) (terms []erlang.Term, known bool, err error) {
	text := d.Text
	if d.Value {
		o = erlang.Options{Vars: values, Placeless: true}
	}
	if d.Role != "" {
		if text, known, err = t.read(d.Role); err != nil {
			return nil, known, fmt.Errorf("%s: %w", d.Name, err)
		}
		if !known {
			return nil, false, nil
		}
	}
	terms, err = erlang.Parse(d.Name, text, o)
	return terms, true, err
}

// embedded reads the texts of the handles inside of values, as far as they are known.
func (a *erlangConfig) embedded(t texts) (values map[string]erlang.Term, complete bool, err error) {
	values, complete = make(map[string]erlang.Term, a.Texts), true
	for i := range a.Texts {
		text, known, err := t.read(textRole(i))
		if err != nil {
			return nil, known, err
		}
		complete = complete && known
		name := strings.TrimPrefix(textRole(i), "text ")
		switch {
		case a.Binary:
			values[name] = erlang.NewBinary(text)
		case !utf8.ValidString(text):
			return nil, known, fmt.Errorf(`the text to be embedded as a string is not UTF-8: give strings = "binary" to embed it as it is`)
		default:
			values[name] = erlang.NewString(text)
		}
	}
	return values, complete, nil
}

func (a *erlangConfig) variables(texts map[string]erlang.Term) (map[string]erlang.Term, error) {
	vars := make(map[string]erlang.Term, len(a.Vars))
	for _, name := range slices.Sorted(maps.Keys(a.Vars)) {
		terms, err := erlang.Parse("vars: "+name, a.Vars[name], erlang.Options{Vars: texts, Placeless: true})
		if err != nil {
			return nil, err
		}
		vars[name] = terms[0]
	}
	return vars, nil
}
