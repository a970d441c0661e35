package builtins

import (
	"fmt"
	"math/big"
	"slices"
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
//	n, err := d.node(at, linkedTexts(l))                     // Finish: to check; sources are read, other texts are stood in for
//	n, err := d.node(at, runTexts(job))                      // Run: to write
type datum struct {
	Kind  datumKind
	Text  string  // of a bool, int, float, string or bytes; of an embedded text, the role of its input
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
	bytesDatum  datumKind = "bytes"
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
		if !utf8.ValidString(string(v)) {
			e.c.Errorf("%s: %q is not UTF-8: write binary data as bytes, b\"...\"", path, string(v))
		}
		return datum{Kind: stringDatum, Text: string(v)}
	case *lang.Handle:
		return e.handle(v, path)
	case *starlark.Dict:
		return e.dict(v, path)
	case starlark.Bytes:
		return datum{Kind: bytesDatum, Text: string(v)}
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

// node is the value as package yaml writes it, all of it at one place, with the
// texts of inputs where they are embedded.
func (d datum) node(at engine.Position, t texts) (n *yaml.Node, err error) {
	n = &yaml.Node{At: at}
	switch d.Kind {
	case boolDatum:
		n.Value = d.Text == "true"
	case intDatum:
		n.Value, err = plainInt(d.Text)
	case floatDatum:
		n.Value, err = strconv.ParseFloat(d.Text, 64)
	case stringDatum:
		n.Value = d.Text
	case bytesDatum:
		n.Value = yaml.Bytes(d.Text)
	case embedDatum:
		n.Value, err = t.embedded(d.Text)
	case listDatum, dictDatum:
		n.Value, err = d.items(at, t)
	}
	return n, err
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

// items is the elements of a list as []*yaml.Node, or of a dict as yaml.Fields.
func (d datum) items(at engine.Position, t texts) (any, error) {
	items := make([]*yaml.Node, len(d.Items))
	for i, item := range d.Items {
		var err error
		if items[i], err = item.node(at, t); err != nil {
			return nil, err
		}
	}
	if d.Kind == listDatum {
		return items, nil
	}
	fields := yaml.NewFieldSet(len(items) / 2)
	for pair := range slices.Chunk(items, 2) {
		fields.Set(yaml.Field{Key: pair[0], Value: pair[1]})
	}
	return fields.Fields, nil
}

// texts is where an action gets the texts of its inputs from. It serves an
// action's checks, before anything is built, as well as its Run.
type texts struct {
	read func(role string) (text string, known bool, err error) // known is false for what a step is yet to make
	name func(role string) string                               // for messages
	vars *variables                                             // of files and texts; nil where there are none
}

// unknownTexts knows no input: it is for checks before the graph is linked.
func unknownTexts() texts {
	return texts{read: func(string) (string, bool, error) { return "", false, nil }}
}

// linkedTexts knows the inputs that are source files.
func linkedTexts(l *lang.Linked) texts { return texts{name: l.SourceName, read: l.SourceText} }

// runTexts knows every input of a running step.
func runTexts(job *engine.Job) texts {
	return texts{name: strconv.Quote, read: func(role string) (string, bool, error) {
		text, err := lang.InputText(job, role)
		return text, true, err
	}}
}

// embedded is what takes the place of a handle in a value: text, or bytes where the
// file is not UTF-8. One that is not known yet is stood in for by a string.
func (t texts) embedded(role string) (any, error) {
	text, known, err := t.read(role)
	switch {
	case err != nil:
		return nil, err
	case !known:
		return "text of " + role, nil
	case !utf8.ValidString(text):
		return yaml.Bytes(text), nil
	}
	return text, nil
}
