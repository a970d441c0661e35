package builtins

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine/content/erlang"
)

func erlAtomOperation() lang.Operation {
	return erlValueOperation("erl_atom", "name", "an Erlang atom, for values in erlang_config",
		`erlang_config(inputs = [{"kernel": {"logger_level": erl_atom("debug")}}])`, erlang.NewAtom, erlang.CheckAtom)
}

func erlBinaryOperation() lang.Operation {
	return erlValueOperation("erl_binary", "text", "an Erlang binary of the text in UTF-8, for values in erlang_config",
		`erlang_config(inputs = [{"app": {"secret": erl_binary("s3cret")}}])`, erlang.NewBinary, anyText)
}

func erlStringOperation() lang.Operation {
	return erlValueOperation("erl_string", "text", `an Erlang string, for values in erlang_config(strings = "binary")`,
		`erlang_config(inputs = [{"app": {"dir": erl_string("/srv")}}], strings = "binary")`, erlang.NewString, anyText)
}

func anyText(string) error { return nil }

func erlValueOperation(name, param, doc, example string, term func(string) erlang.Term, check func(string) error) lang.Operation {
	return lang.Operation{
		Name: name, Doc: doc, Positional: 1,
		Params:  []lang.Param{{Name: param, Type: lang.String, Required: true, Doc: "the text"}},
		Example: example,
		Value: func(c *lang.Call) (starlark.Value, error) {
			text := c.String(param)
			if !utf8.ValidString(text) {
				c.Errorf("%s: %q is not UTF-8", param, text)
			}
			if err := check(text); err != nil {
				c.Errorf("%w", err)
			}
			return &erlValue{name, text, term(text)}, nil
		},
	}
}

// erlValue is a text that becomes an Erlang term of one kind.
type erlValue struct {
	op   string
	text string
	term erlang.Term
}

// String implements starlark.Value.
func (v *erlValue) String() string { return fmt.Sprintf("%s(%q)", v.op, v.text) }

// Type implements starlark.Value.
func (v *erlValue) Type() string { return v.op }

// Freeze implements starlark.Value; the value never changes.
func (v *erlValue) Freeze() {}

// Truth implements starlark.Value.
func (v *erlValue) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (v *erlValue) Hash() (uint32, error) { return starlark.String(v.String()).Hash() }

// CompareSameType implements starlark.Comparable: values of equal text are equal.
func (v *erlValue) CompareSameType(op syntax.Token, other starlark.Value, _ int) (bool, error) {
	same := v.text == other.(*erlValue).text
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, fmt.Errorf("%s values have no order", v.op)
}

// erlConverter turns the values of one erlang_config() call into terms. A
// handle becomes a variable that stands for the text of an input.
type erlConverter struct {
	c      *lang.Call
	binary bool // strings become binaries
	maps   bool // dicts become maps
	text   bool // keys of dicts become what strings do, not atoms
	inputs []lang.StepInput
}

// textRole is the role of the i-th handle inside of a value.
func textRole(i int) string { return "text " + strconv.Itoa(i) }

// term converts a value; path names it in messages.
func (e *erlConverter) term(v starlark.Value, path string) erlang.Term {
	if err := lang.CheckText([]starlark.Value{v}, true); err != nil {
		e.c.Errorf("%s: %w", path, err)
		return erlang.NewAtom("undefined")
	}
	return e.convert(v, path)
}

func (e *erlConverter) convert(v starlark.Value, path string) erlang.Term {
	switch v := v.(type) {
	case starlark.NoneType:
		return erlang.NewAtom("undefined")
	case starlark.Bool:
		return erlang.NewAtom(strconv.FormatBool(bool(v)))
	case starlark.Int:
		return erlang.NewInt(v.String())
	case starlark.Float:
		return e.float(float64(v), path)
	case starlark.String:
		return e.string(string(v), path)
	case starlark.Bytes:
		return erlang.NewBinary(string(v))
	case *erlValue:
		return v.term
	case *lang.Handle:
		return e.handle(v, path)
	case *starlark.Dict:
		return e.dict(v, path)
	case starlark.Tuple:
		return erlang.NewTuple(e.items(v, path))
	case starlark.Indexable:
		return erlang.NewList(e.items(v, path))
	}
	e.c.Errorf("%s: a %s can't be an Erlang term", path, v.Type())
	return erlang.NewAtom("undefined")
}

func (e *erlConverter) items(list starlark.Indexable, path string) []erlang.Term {
	items := make([]erlang.Term, list.Len())
	for i := range items {
		items[i] = e.convert(list.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	return items
}

func (e *erlConverter) float(f float64, path string) erlang.Term {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		e.c.Errorf("%s: Erlang has no float %v", path, f)
		f = 0
	}
	return erlang.NewFloat(f)
}

func (e *erlConverter) string(s, path string) erlang.Term {
	if !utf8.ValidString(s) {
		e.c.Errorf("%s: %q is not UTF-8", path, s)
	}
	if e.binary {
		return erlang.NewBinary(s)
	}
	return erlang.NewString(s)
}

// handle makes the text of a step's result, or of a source, a part of the value.
func (e *erlConverter) handle(h *lang.Handle, path string) erlang.Term {
	i := len(e.inputs)
	e.inputs = append(e.inputs, lang.StepInput{Role: textRole(i), From: e.c.Operand(h, lang.File, path)})
	return erlang.NewVar(strconv.Itoa(i))
}

// dict makes a property list or a map.
func (e *erlConverter) dict(d *starlark.Dict, path string) erlang.Term {
	var items []erlang.Term
	for k, v := range d.Entries() {
		key := e.key(k, path)
		value := e.convert(v, path+"["+k.String()+"]")
		if e.maps {
			items = append(items, key, value)
			continue
		}
		items = append(items, erlang.NewTuple([]erlang.Term{key, value}))
	}
	if e.maps {
		return erlang.NewMap(items)
	}
	return erlang.NewList(items)
}

func (e *erlConverter) key(k starlark.Value, path string) erlang.Term {
	s, ok := k.(starlark.String)
	if !ok || e.text {
		return e.convert(k, path+" key "+strings.TrimSpace(k.String()))
	}
	if err := erlang.CheckAtom(string(s)); err != nil {
		e.c.Errorf("%s: %w", path, err)
	}
	return erlang.NewAtom(string(s))
}
