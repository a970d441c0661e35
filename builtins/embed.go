package builtins

import (
	"fmt"
	"math/big"
	"strconv"
	"unicode/utf8"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content/yaml"
)

// datum is a value of a build file as an action keeps it: plain, so that all
// of it is part of the key, and with the handles in it turned into inputs of
// the step, whose texts take their places when the action runs.
//
// An operation that writes structured text uses it in three places:
//
//	d, inputs := embed(c, "user_data", c.Value("user_data"))  // make: keep d in the action, add inputs to the Step's
//	v, err := d.plain(sourceTexts(l))                        // Finish: to check; sources are read, other texts are stood in for
//	v, err := d.plain(jobTexts(job))                         // Run: to write
type datum struct {
	Kind  datumKind
	Text  string  // of a bool, int, float or string; of an embedded text, the role of its input
	Items []datum // of a list; of a dict, keys (strings) and values in turn
}

// datumKind says what a datum is.
type datumKind string

// The kinds of a datum.
const (
	nullDatum   datumKind = "null"
	boolDatum   datumKind = "bool"
	intDatum    datumKind = "int"
	floatDatum  datumKind = "float"
	stringDatum datumKind = "string"
	listDatum   datumKind = "list"
	dictDatum   datumKind = "dict"
	embedDatum  datumKind = "text" // the text of an input
)

// embed turns a value into a datum and the inputs that the handles in it
// need. Mistakes are recorded with their path in the value, such as
// user_data["write_files"][0]. The roles begin with the parameter's name.
func embed(c *lang.Call, param string, v starlark.Value) (datum, []lang.StepInput) {
	if err := lang.CheckText([]starlark.Value{v}, true); err != nil {
		c.Errorf("%s: %w", param, err)
		return datum{Kind: nullDatum}, nil
	}
	e := embedder{c: c, param: param}
	return e.convert(v, param), e.inputs
}

// embedder collects the handles of one value.
type embedder struct {
	c      *lang.Call
	param  string
	inputs []lang.StepInput
}

func (e *embedder) convert(v starlark.Value, path string) datum {
	switch v := v.(type) {
	case starlark.NoneType:
		return datum{Kind: nullDatum}
	case starlark.Bool:
		return datum{Kind: boolDatum, Text: strconv.FormatBool(bool(v))}
	case starlark.Int:
		return datum{Kind: intDatum, Text: v.String()}
	case starlark.Float:
		return datum{Kind: floatDatum, Text: strconv.FormatFloat(float64(v), 'g', -1, 64)}
	case starlark.String:
		return datum{Kind: stringDatum, Text: string(v)}
	case *lang.Handle:
		return e.handle(v, path)
	case *starlark.Dict:
		return e.dict(v, path)
	case starlark.Bytes: // its elements are Bytes, too, without end
	case starlark.Indexable:
		return e.list(v, path)
	}
	e.c.Errorf("%s: a %s can't be written as text", path, v.Type())
	return datum{Kind: nullDatum}
}

func (e *embedder) list(v starlark.Indexable, path string) datum {
	d := datum{Kind: listDatum, Items: make([]datum, v.Len())}
	for i := range d.Items {
		d.Items[i] = e.convert(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	return d
}

func (e *embedder) dict(dict *starlark.Dict, path string) datum {
	d := datum{Kind: dictDatum, Items: make([]datum, 0, 2*dict.Len())}
	for k, v := range dict.Entries() {
		key, ok := starlark.AsString(k)
		if !ok {
			e.c.Errorf("%s: the key %s is no string", path, k)
			continue
		}
		d.Items = append(d.Items, datum{Kind: stringDatum, Text: key}, e.convert(v, fmt.Sprintf("%s[%q]", path, key)))
	}
	return d
}

func (e *embedder) handle(h *lang.Handle, path string) datum {
	role := fmt.Sprintf("%s text %d", e.param, len(e.inputs))
	e.inputs = append(e.inputs, lang.StepInput{Role: role, From: e.c.Operand(h, lang.File, path)})
	return datum{Kind: embedDatum, Text: role}
}

// plain is the value as package yaml writes it: nil, bool, int64,
// *big.Int, float64, string, []any or yaml.Map. text gives the text of the
// input of a role; it may be nil where nothing is embedded.
func (d datum) plain(text func(role string) (string, error)) (any, error) {
	switch d.Kind {
	case boolDatum:
		return d.Text == "true", nil
	case intDatum:
		return plainInt(d.Text)
	case floatDatum:
		return strconv.ParseFloat(d.Text, 64)
	case stringDatum:
		return d.Text, nil
	case embedDatum:
		return text(d.Text)
	case listDatum:
		return d.plainList(text)
	case dictDatum:
		return d.plainDict(text)
	}
	return nil, nil
}

func plainInt(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("bad number %q", s)
	}
	return n, nil
}

func (d datum) plainList(text func(string) (string, error)) (any, error) {
	list := make([]any, len(d.Items))
	for i, item := range d.Items {
		var err error
		if list[i], err = item.plain(text); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d datum) plainDict(text func(string) (string, error)) (any, error) {
	m := make(yaml.Map, 0, len(d.Items)/2)
	for i := 0; i+1 < len(d.Items); i += 2 {
		v, err := d.Items[i+1].plain(text)
		if err != nil {
			return nil, err
		}
		m = append(m, yaml.Pair{Key: d.Items[i].Text, Value: v})
	}
	return m, nil
}

// jobTexts reads the texts of a running step's inputs. Text that is not UTF-8
// is an error: no structured format could carry it.
func jobTexts(job *engine.Job) func(role string) (string, error) {
	return func(role string) (string, error) {
		text, err := lang.InputText(job, role)
		if err == nil && !utf8.ValidString(text) {
			err = fmt.Errorf("%s: the embedded text is not UTF-8", role)
		}
		return text, err
	}
}

// sourceTexts reads the texts of inputs that are source files, and stands in
// for those that steps make: they are strings, too, but not known yet.
func sourceTexts(l *lang.Linked) func(role string) (string, error) {
	return func(role string) (string, error) {
		name, ok := l.SourcePath(role)
		if !ok {
			return "text of " + role, nil
		}
		text, err := lang.ReadText(name)
		if err == nil && !utf8.ValidString(text) {
			err = fmt.Errorf("%s is not UTF-8, so it can't be embedded as text", l.SourceName(role))
		}
		return text, err
	}
}
