package lang

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// Operation is one built-in function of the build language. Exactly one of Make
// and Value is set: Make says which step a call records, whose handle it
// returns; Value returns any other value. Neither does any I/O.
//
// Every operation that makes a step also takes the parameters name,
// visibility, doc and tags; see NameParam.
type Operation struct {
	Name       string  // as build files call it
	Doc        string  // a line that says what it makes or does, without a full stop; then, after an empty line, the rest
	Positional int     // how many of the leading Params may be given without their names
	Params     []Param // in the order of documentation
	Example    string  // a call, for the documentation

	Make  func(c *Call) (Step, error)
	Value func(c *Call) (starlark.Value, error)
}

// Param is one parameter of an operation.
type Param struct {
	Name     string
	Type     Type
	Doc      string         // one line: what it means, its unit, what happens without it
	Required bool           // must be given and not be None
	Default  starlark.Value // what an absent one means; nil leaves it absent
	Enum     []string       // if not nil, the strings that are allowed
	Min, Max int64          // if not both 0, the range of a number or size

	// Otherwise ends the message about a string that was taken for the path of a
	// source file and is none: how to write what it may have been meant as, with a
	// %[1]q for it. "" is nothing.
	Otherwise string
}

// Step is what an operation's call asks for.
type Step struct {
	Action  engine.Action
	Inputs  []StepInput
	Outputs []engine.Output // at least one; their names are what handle["name"] selects

	// Finish, when not nil, is called once when every input has its node. It
	// may look at the inputs, put further steps between, and replace the
	// action, inputs and outputs (but not the outputs' names).
	Finish func(l *Linked) error

	// Group makes the target stand for other targets. Action, Inputs and
	// Outputs must be empty then.
	Group []Input
}

// StepInput is one input of a step under the role its action asks for. Roles
// are unique in a step; an Input that was not given is left out of the node. Of a
// parameter that takes a [Group], a step with several outputs becomes one input for each,
// with the roles "ROLE/OUTPUT".
type StepInput struct {
	Role string
	From Input
}

// Input is an operand: a handle, a label or a source file, as a getter of
// Call returned it. The zero Input is one that was not given.
type Input struct {
	decl   *declaration // the step, once known
	output string       // the output selected, if any
	label  *Label       // a label that is yet to be looked up
	want   Type         // File, Tree or both
	param  string       // the parameter it was given for, for messages
	follow bool         // a source may be a link out of the workspace
}

// IsZero reports whether the input was not given.
func (in Input) IsZero() bool { return in.decl == nil && in.label == nil }

// Followed is the input for which a source may be a symbolic link that leads out
// of the workspace, since the build file asks for what it leads to.
func (in Input) Followed() Input {
	in.follow = true
	return in
}

// NameParam is the parameter name of an operation that makes a step, for one
// that takes it by position, or documents it at another place than the end.
func NameParam() Param {
	return Param{Name: "name", Type: String, Doc: "makes the step a target of this name"}
}

// commonParams are those that every operation that makes a step has.
func CommonParams() []Param {
	return []Param{
		NameParam(),
		{Name: "visibility", Type: ListOf(String), Doc: `who may refer to the target by label: "public" (the default), "private" (this package), "//pkg" or "//pkg/..."`},
		{Name: "doc", Type: String, Doc: "free text about the target, listed by b9 query"},
		{Name: "tags", Type: ListOf(String), Doc: `words that patterns such as //... choose by (--tags); with "manual" only who names the target builds it`},
		{Name: "place", Type: ListOf(String), Doc: `names of the outputs that are placed when the target is built, such as ["/out"] (default: all)`},
		{Name: "out", Type: String | DictOf(String), Doc: `where below the package's results: a path such as "vm/0.vmdk", for the first of place, else for the step itself, or paths by output (default: the name)`},
	}
}

// AllParams is the parameters of the operation including the common ones.
func (o *Operation) AllParams() []Param {
	if o.Make == nil {
		return o.Params
	}
	all := append([]Param(nil), o.Params...)
	for _, p := range CommonParams() {
		if !slices.ContainsFunc(o.Params, func(own Param) bool { return own.Name == p.Name }) {
			all = append(all, p)
		}
	}
	return all
}

// OneFile is the outputs of a step that makes one file, whose name ends in ext
// where it is placed; ext has no dot and may be empty.
func OneFile(ext string) []engine.Output { return ModedFile(ext, 0) }

// ModedFile is the same with the permission bits that the file asks for, or 0.
// The store does not keep them: operations that put files into trees and images
// ask for them with Linked.Output.
func ModedFile(ext string, mode uint32) []engine.Output {
	return []engine.Output{{Kind: store.File, Ext: ext, Mode: mode}}
}

// OneTree is the outputs of a step that makes one directory.
func OneTree() []engine.Output {
	return []engine.Output{{Kind: store.Tree}}
}

// checkOperations reports the first operation that a build file could not call
// as its documentation says.
func checkOperations(ops []Operation) error {
	names := map[string]bool{}
	for i := range ops {
		op := &ops[i]
		switch {
		case op.Name == "" || names[op.Name]:
			return fmt.Errorf("operation %d: the name %q is empty or taken", i, op.Name)
		case (op.Make == nil) == (op.Value == nil):
			return fmt.Errorf("operation %s: exactly one of Make and Value must be set", op.Name)
		case op.Positional > len(op.Params):
			return fmt.Errorf("operation %s: %d of %d parameters are positional", op.Name, op.Positional, len(op.Params))
		}
		names[op.Name] = true
		if err := checkParams(op); err != nil {
			return err
		}
	}
	return nil
}

func checkParams(op *Operation) error {
	names := map[string]bool{}
	for _, p := range op.AllParams() {
		if p.Name == "" || names[p.Name] {
			return fmt.Errorf("operation %s: the parameter's name %q is empty or taken", op.Name, p.Name)
		}
		names[p.Name] = true
		if p.Default != nil && p.Type.check(p.Default) != nil {
			return fmt.Errorf("operation %s: the default of %s: %w", op.Name, p.Name, p.Type.check(p.Default))
		}
		if p.Enum != nil && p.Type.basic()&String == 0 {
			return fmt.Errorf("operation %s: %s has alternatives and is no string", op.Name, p.Name)
		}
	}
	return nil
}

// paramTag is the tag of a field of an action that says which parameter the field comes
// from, where the name of the field does not: its name, "." for one that the fields
// below tell, or "[].F" for a list whose elements have the name in their field F. After
// a name ",not" says that the field is true where the argument is False.
const paramTag = "param"

// Origin says from which argument of a call a part of a key comes.
type Origin struct {
	Param Param
	Rest  string // which element of it, or which field of that: "[0]", `["A"]`, "[1].size"
	Not   bool   // the part is true where the argument is False
}

// OriginOf finds the argument that a part of the key of an action comes from, such as
// `Env["A"]`; ok is false for what comes from none of the operation's.
func (o *Operation) OriginOf(action engine.Action, part string) (a Origin, ok bool) {
	params, v := o.AllParams(), reflect.ValueOf(action)
	for part != "" {
		field := part
		if i := strings.IndexAny(part, ".["); i >= 0 {
			field = part[:i]
		}
		part = part[len(field):]
		name := field
		v, name = fieldOf(v, field, part)
		name, a.Not = strings.CutSuffix(name, ",not")
		if i := slices.IndexFunc(params, func(p Param) bool { return sameName(p.Name, name) }); i >= 0 {
			a.Param, a.Rest = params[i], part
			return a, true
		}
		_, below, found := strings.Cut(part, ".")
		if !found {
			break
		}
		part = below
	}
	return Origin{}, false
}

// fieldOf is the field of a struct, or of what a pointer or list leads to, and what tells
// its parameter: the tag, else the name.
func fieldOf(v reflect.Value, field, rest string) (reflect.Value, string) {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice) {
		if v.Kind() == reflect.Slice {
			v = reflect.New(v.Type().Elem()) // any element has the same fields
		}
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() != reflect.Struct {
		return reflect.Value{}, field
	}
	f, ok := v.Type().FieldByName(field)
	if !ok {
		return reflect.Value{}, field
	}
	v = v.FieldByIndex(f.Index)
	tag := f.Tag.Get(paramTag)
	if below, ok := strings.CutPrefix(tag, "[]."); ok {
		return v, elementName(v, below, rest)
	}
	if tag == "" {
		tag = field
	}
	return v, tag
}

// elementName is what the element that rest begins with has in a field: the name of a
// parameter, perhaps with more behind it.
func elementName(list reflect.Value, field, rest string) string {
	number, _, _ := strings.Cut(strings.TrimPrefix(rest, "["), "]")
	i, err := strconv.Atoi(number)
	if err != nil || i >= list.Len() {
		return ""
	}
	name, _, _ := strings.Cut(list.Index(i).FieldByName(field).String(), "[")
	return name
}

// sameName compares the name of a parameter with that of a field: image_only is ImageOnly.
func sameName(param, field string) bool {
	return strings.EqualFold(strings.ReplaceAll(param, "_", ""), strings.ReplaceAll(field, "_", ""))
}
