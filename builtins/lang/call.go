package lang

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
	"b9.build/b9/engine/size"
)

// Call is one call of an operation with its arguments bound to parameters and
// their types checked. The getters take the parameter's name; they return the
// zero value for an absent parameter, and record what is wrong with a present
// one, so that their caller needs no error handling: a step made from wrong
// arguments is thrown away and the errors are reported.
//
// A Call is valid only during Make or Value.
type Call struct {
	m      *module
	sig    *signature
	thread *starlark.Thread
	pos    engine.Position
	values []starlark.Value // by parameter; nil is absent
	errs   []string         // each with the operation's name before it
	cause  error            // of one of errs, where the caller branches on it
}

// signature is an operation made ready for calling.
type signature struct {
	op     *Operation
	params []Param
	names  []string // of params
}

// environment is what every build file finds defined.
func environment(ops []Operation) starlark.StringDict {
	env := languageNames()
	for i := range ops {
		sig := &signature{op: &ops[i], params: ops[i].AllParams()}
		for _, p := range sig.params {
			sig.names = append(sig.names, p.Name)
		}
		env[ops[i].Name] = starlark.NewBuiltin(ops[i].Name, sig.call)
	}
	env.Freeze()
	return env
}

// begin reuses the module's Call: built-ins of one thread never nest.
func (s *signature) begin(thread *starlark.Thread) *Call {
	m := moduleOf(thread)
	c := &m.call
	c.m, c.sig, c.thread = m, s, thread
	c.pos = positionOf(thread.CallFrame(1).Pos)
	c.errs, c.cause = c.errs[:0], nil
	if cap(c.values) < len(s.params) {
		c.values = make([]starlark.Value, len(s.params), 2*len(s.params))
	}
	c.values = c.values[:len(s.params)]
	clear(c.values)
	return c
}

// call is the function the interpreter calls.
func (s *signature) call(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	c := s.begin(thread)
	c.bind(args, kwargs)
	if s.op.Make != nil {
		return c.declare()
	}
	var v starlark.Value
	if !c.Failed() {
		var err error
		if v, err = s.op.Value(c); err != nil {
			c.Errorf("%w", err)
			c.cause = err
		}
	}
	if c.Failed() {
		return nil, &callError{strings.Join(c.errs, "; "), c.cause}
	}
	return v, nil
}

// callError is what is wrong with a call, in a sentence that says it all.
type callError struct {
	msg   string
	cause error
}

func (e *callError) Error() string { return e.msg }

func (e *callError) Unwrap() error { return e.cause }

// bind assigns arguments to parameters and checks their types.
func (c *Call) bind(args starlark.Tuple, kwargs []starlark.Tuple) {
	if len(args) > c.sig.op.Positional {
		c.tooManyArguments(len(args))
		args = args[:c.sig.op.Positional]
	}
	copy(c.values, args)
	for _, kv := range kwargs {
		name := string(kv[0].(starlark.String))
		switch i := c.index(name); {
		case i < 0:
			c.Errorf("%s", Unknown("unknown parameter", name, c.sig.names))
		case c.values[i] != nil:
			c.Errorf("parameter %q is given twice", name)
		default:
			c.values[i] = kv[1]
		}
	}
	for i := range c.values {
		c.checkArgument(i)
	}
}

func (c *Call) tooManyArguments(n int) {
	names := c.sig.names[:c.sig.op.Positional]
	if len(names) == 0 {
		c.Errorf("got %d arguments without a name: write them as NAME=VALUE", n)
		return
	}
	c.Errorf("got %d arguments without a name, takes at most %d (%s): write the others as NAME=VALUE", n, len(names), strings.Join(names, ", "))
}

// checkArgument checks one argument against its parameter and applies the default.
func (c *Call) checkArgument(i int) {
	p, v := &c.sig.params[i], c.values[i]
	if v == nil || v == starlark.None {
		c.values[i] = p.Default
		if p.Required {
			c.Errorf("parameter %q is missing: give %s=%s", p.Name, p.Name, p.Type)
		}
		return
	}
	if err := p.Type.check(v); err != nil {
		c.Errorf("%s: %w", p.Name, err)
		c.values[i] = nil
		return
	}
	if s, ok := v.(starlark.String); ok && p.Enum != nil && !slices.Contains(p.Enum, string(s)) {
		c.Errorf("%s", Unknown("unknown "+p.Name, string(s), p.Enum))
	}
	if p.Min != 0 || p.Max != 0 {
		c.checkRange(p, v)
	}
}

func (c *Call) checkRange(p *Param, v starlark.Value) {
	n, ok := Integer(v)
	if !ok || n < p.Min || p.Max != 0 && n > p.Max {
		if p.Max == 0 {
			c.Errorf("%s: %s is less than %d", p.Name, v, p.Min)
			return
		}
		c.Errorf("%s: %s is not from %d to %d", p.Name, v, p.Min, p.Max)
	}
}

// Integer is the value of an int, or the bytes of a size given as a string; ok is
// false for anything else.
func Integer(v starlark.Value) (n int64, ok bool) {
	switch v := v.(type) {
	case starlark.Int:
		return v.Int64()
	case starlark.String:
		n, err := size.Parse(string(v))
		return int64(n), err == nil
	}
	return 0, false
}

// Errorf records a mistake in the arguments. It is reported with the place
// and the operation's name before it.
func (c *Call) Errorf(format string, args ...any) {
	c.errs = append(c.errs, c.sig.op.Name+"(): "+fmt.Errorf(format, args...).Error())
}

// Failed reports whether a mistake was recorded.
func (c *Call) Failed() bool { return len(c.errs) > 0 }

// Pos is the place of the call in the build file.
func (c *Call) Pos() engine.Position { return c.pos }

// File is the build file that makes the call, as labels name it.
func (c *Call) File() string { return c.m.id }

// Identity returns text that tells the call from every other one: the build file,
// the text about it, and, where calls give the same text, which of them it is. It
// does not depend on where in the file the call stands.
func (c *Call) Identity(about string) string {
	if c.m.same == nil {
		c.m.same = map[string]int{}
	}
	c.m.same[about]++
	return fmt.Sprintf("%s %d %s", c.m.id, c.m.same[about], about)
}

func (c *Call) index(name string) int { return slices.Index(c.sig.names, name) }

// Value is the argument itself, or nil where it is absent and has no default.
func (c *Call) Value(param string) starlark.Value {
	i := c.index(param)
	if i < 0 {
		panic("lang: " + c.sig.op.Name + " has no parameter " + param)
	}
	return c.values[i]
}

// Given reports whether the argument is present or has a default.
func (c *Call) Given(param string) bool { return c.Value(param) != nil }

// String is the argument when it is a string, else "".
func (c *Call) String(param string) string {
	s, _ := c.Value(param).(starlark.String)
	return string(s)
}

// Bool is the argument when it is a bool, else false.
func (c *Call) Bool(param string) bool {
	b, _ := c.Value(param).(starlark.Bool)
	return bool(b)
}

// Int is the argument when it is an int, else 0. One beyond 64 bits is an error.
func (c *Call) Int(param string) int64 {
	v, ok := c.Value(param).(starlark.Int)
	if !ok {
		return 0
	}
	n, ok := v.Int64()
	if !ok {
		c.Errorf("%s: %s is too large", param, v)
	}
	return n
}

// Size is the argument in bytes, else 0. A negative one is an error.
func (c *Call) Size(param string) int64 {
	v := c.Value(param)
	if v == nil {
		return 0
	}
	n, ok := Integer(v)
	if !ok || n < 0 {
		c.Errorf("%s: %s is not a size", param, v)
		return 0
	}
	return n
}

// Number is the argument when it is a float or an int, else 0. A negative one is
// an error.
func (c *Call) Number(param string) float64 {
	f, _ := starlark.AsFloat(c.Value(param))
	if f < 0 {
		c.Errorf("%s: %g is negative", param, f)
	}
	return f
}

// Duration is the argument when it is a number of seconds, or a string such
// as "90s", "1h30m" or "1d", else 0. One that is not positive is an error.
func (c *Call) Duration(param string) time.Duration {
	switch v := c.Value(param).(type) {
	case starlark.Int:
		if n := c.Int(param); n > 0 && n < 1<<31 {
			return time.Duration(n) * time.Second
		}
		c.Errorf("%s: want a positive number of seconds, got %s", param, v)
	case starlark.String:
		d, err := size.ParseDuration(string(v))
		if err != nil {
			c.Errorf("%s: %w", param, err)
		} else if d == 0 {
			c.Errorf("%s: want a positive duration, got %q", param, string(v))
		}
		return d.Std()
	}
	return 0
}

// Strings is the argument when it is a list of strings, or a single string as
// a list of one, else nil.
func (c *Call) Strings(param string) []string {
	switch v := c.Value(param).(type) {
	case starlark.String:
		return []string{string(v)}
	case starlark.Indexable:
		list := make([]string, 0, v.Len())
		for _, item := range c.Elements(param) {
			s, _ := starlark.AsString(item) // as its type was checked
			list = append(list, s)
		}
		return list
	}
	return nil
}

// Entry is one item of a dict argument.
type Entry struct {
	Key   string
	Value starlark.Value
}

// Entries is the items of a dict argument in the order they were written.
func (c *Call) Entries(param string) []Entry {
	dict, ok := c.Value(param).(*starlark.Dict)
	if !ok {
		return nil
	}
	list := make([]Entry, 0, dict.Len())
	for k, v := range dict.Entries() {
		key, _ := starlark.AsString(k)
		list = append(list, Entry{key, v})
	}
	return list
}

// Elements is the values of a list or tuple argument, else nil.
func (c *Call) Elements(param string) []starlark.Value {
	list, ok := c.Value(param).(starlark.Indexable)
	if !ok {
		return nil
	}
	all := make([]starlark.Value, list.Len())
	for i := range all {
		all[i] = list.Index(i)
	}
	return all
}

// Input is the argument when it is a handle, label or source path.
func (c *Call) Input(param string) Input {
	v := c.Value(param)
	if v == nil {
		return Input{}
	}
	return c.Operand(v, c.sig.params[c.index(param)].Type.basic(), param)
}

// Inputs is the argument when it is a list of handles, labels or source paths,
// or a single one as a list of one.
func (c *Call) Inputs(param string) []Input {
	v := c.Value(param)
	if v == nil {
		return nil
	}
	_, list := v.(starlark.Indexable)
	if _, text := v.(starlark.String); text || !list {
		return []Input{c.Input(param)}
	}
	want := c.sig.params[c.index(param)].Type.element()
	var inputs []Input
	for _, item := range c.Elements(param) {
		inputs = append(inputs, c.Operand(item, want, param))
	}
	return inputs
}

// Operand turns a value that was found inside an argument into an input. want
// is File, Tree or both; param names the parameter in messages.
func (c *Call) Operand(v starlark.Value, want Type, param string) Input {
	in := Input{want: want & (File | Tree | Group), param: param}
	var err error
	switch v := v.(type) {
	case *Handle:
		if in.decl, in.output = v.decl, v.output; v.file != "" {
			in.decl, in.output = c.pick(v, false), ""
		}
		err = in.check()
	case starlark.String:
		err = c.named(&in, string(v))
	default:
		err = fmt.Errorf("want %s, got %s", want, v.Type())
	}
	if err != nil {
		c.Errorf("%s: %w", param, err)
		return Input{}
	}
	return in
}

// named fills in an input that was given as a string.
func (c *Call) named(in *Input, s string) error {
	if IsLabel(s) {
		l, err := parseLabel(s, c.m.base)
		if err != nil {
			return err
		}
		in.label = &l
		return nil
	}
	source, err := c.m.source(s)
	in.decl = source
	return err
}

// check checks an input whose step is known: the output exists, is the only
// one where none is selected, and is of the kind that is wanted.
func (in *Input) check() error {
	d := in.decl
	if d.poisoned || d.source != nil && len(d.step.Outputs) == 0 {
		return nil
	}
	if in.output == "" && in.want&Group != 0 {
		return nil
	}
	out, ok := d.output(in.output)
	if in.output == "" && !ok {
		var err error
		if out, err = d.only(); err != nil {
			return err
		}
		in.output = out.Name
	} else if !ok {
		return errors.New(d.noOutput(in.output))
	}
	return in.checkKind(out)
}
