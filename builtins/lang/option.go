package lang

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

func OptionBuiltin() Operation {
	return Operation{
		Name: "option",
		Doc: "a value that the command line may set with -D NAME=VALUE\n\n" +
			"The value is part of the key of exactly those steps that it is used in. The same option may be declared " +
			"in several files if the declarations agree.",
		Positional: 3,
		Params: []Param{
			{Name: "name", Type: String, Required: true, Doc: "the name on the command line"},
			{Name: "type", Type: String, Default: starlark.String("string"), Enum: []string{"string", "int", "bool"}, Doc: `"string", "int", or "bool" (true or false)`},
			{Name: "default", Type: String | Int | Bool, Doc: "the value without -D; None if it is left out"},
			{Name: "help", Type: String, Doc: "one line about the option"},
			{Name: "choices", Type: ListOf(String | Int), Doc: "the only values that are allowed"},
		},
		Example: `suite = option("suite", default = "bookworm", help = "the Debian release to install")`,
		Value:   optionValue,
	}
}

// Option is one declared option.
type Option struct {
	Name, Type, Help string
	Default          string // as -D would give it; "" if there is none
	Choices          []string
	Position         engine.Position // of the first declaration
}

// ErrOption is in the error of a value for an option, of the command line or
// the configuration, that no option takes.
var ErrOption = errors.New("wrong value for an option")

type optionError struct{ msg string }

func (e *optionError) Error() string { return e.msg }

func (e *optionError) Is(target error) bool { return target == ErrOption }

type declaredOption struct {
	Option
	value starlark.Value
}

// DeclaredOptions lists the options that the evaluated files declare, by name.
func (w *Workspace) DeclaredOptions() []Option {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Option
	for _, name := range slices.Sorted(maps.Keys(w.options)) {
		list = append(list, w.options[name].Option)
	}
	return list
}

func optionValue(c *Call) (starlark.Value, error) {
	o := declaredOption{Option: Option{Name: c.String("name"), Type: c.String("type"), Help: c.String("help"), Position: c.pos}, value: starlark.None}
	if err := checkTargetName(o.Name); err != nil {
		return nil, fmt.Errorf("bad option name %q: use letters, digits and . _ + - @ ~", o.Name)
	}
	for _, v := range c.Elements("choices") {
		o.Choices = append(o.Choices, OptionText(v))
	}
	if d := c.Value("default"); d != nil {
		o.Default = OptionText(d)
		if err := o.parse(o.Default); err != nil || o.value.Type() != d.Type() {
			return nil, fmt.Errorf("default: %s is not of the type %s", d, o.Type)
		}
	}
	if text, set := c.m.ws.cfg.Options[o.Name]; set {
		if err := o.parse(text); err != nil {
			return nil, &optionError{fmt.Sprintf("-D %s=%s: %v", o.Name, text, err)}
		}
	}
	return o.value, c.m.ws.declareOption(o)
}

// Elements is the values of a list argument.
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

// OptionText is a value as -D would give it.
func OptionText(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.String:
		return string(v)
	case starlark.Bool:
		return strconv.FormatBool(bool(v))
	}
	return v.String()
}

// parse sets the value from text.
func (o *declaredOption) parse(text string) error {
	if o.Choices != nil && !slices.Contains(o.Choices, text) {
		return fmt.Errorf("%s", Suggest(fmt.Sprintf("unknown value %q (%s)", text, Listed(o.Choices)), text, o.Choices))
	}
	switch o.Type {
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("want a whole number")
		}
		o.value = starlark.MakeInt64(n)
	case "bool":
		if text != "true" && text != "false" {
			return fmt.Errorf("want true or false")
		}
		o.value = starlark.Bool(text == "true")
	default:
		o.value = starlark.String(text)
	}
	return nil
}

// declareOption records the option. Declarations of one name must agree.
func (w *Workspace) declareOption(o declaredOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.options[o.Name]
	if old == nil {
		w.options[o.Name] = &o
		return nil
	}
	if old.Type != o.Type || old.Default != o.Default || !slices.Equal(old.Choices, o.Choices) {
		first, second := old.Position, o.Position
		if comparePositions(first, second) > 0 {
			first, second = second, first
		}
		return fmt.Errorf("the option %q is declared differently at %s and at %s: make the declarations agree, or load one from the other", o.Name, first, second)
	}
	if comparePositions(o.Position, old.Position) < 0 {
		old.Position, old.Help = o.Position, o.Help
	}
	return nil
}
