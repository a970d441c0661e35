package lang

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

// Option is the operation option().
func Option() Operation {
	return Operation{
		Name: "option",
		Doc: "a value that the command line may set with -D NAME=VALUE\n\n" +
			"The value is part of the key of exactly those steps that it is used in. The same option may be declared " +
			"in several files if the declarations agree.",
		Positional: 2,
		Params: []Param{
			{Name: "name", Type: String, Required: true, Doc: "the name on the command line"},
			{Name: "default", Type: String | Int | Bool, Doc: "the value without -D; None if it is left out"},
			{Name: "type", Type: String, Enum: optionTypes, Doc: `"string", "int", or "bool" (true or false); if it is left out, the type of the default, else "string"`},
			{Name: "help", Type: String, Doc: "one line about the option, such as \"the Debian release to install\"; the message about a wrong value has it"},
			{Name: "choices", Type: ListOf(String | Int), Doc: "the only values that are allowed"},
		},
		Example: `suite = option("suite", default = "bookworm", help = "the Debian release to install")`,
		Value:   optionValue,
	}
}

var optionTypes = []string{"string", "int", "bool"}

// declaredOption is what one call of option() says.
type declaredOption struct {
	name, kind string
	help       string
	standard   string // the default as -D would give it; "" if there is none
	choices    []string
	at         engine.Position // of the first declaration
	value      starlark.Value  // in this evaluation
}

// ErrOption is in the error of a value for an option, of the command line or
// the configuration, that no option takes.
var ErrOption = errors.New("wrong value for an option")

func optionValue(c *Call) (starlark.Value, error) {
	o := declaredOption{name: c.String("name"), kind: c.String("type"), help: c.String("help"), at: c.pos, value: starlark.None}
	if err := checkTargetName(o.name); err != nil {
		return nil, fmt.Errorf("bad option name %q: use letters, digits and . _ + - @ ~", o.name)
	}
	for _, v := range c.Elements("choices") {
		o.choices = append(o.choices, Text(v))
	}
	if d := c.Value("default"); d != nil {
		o.standard = Text(d)
		if o.kind == "" && slices.Contains(optionTypes, o.standard) {
			return nil, fmt.Errorf("the second value is the default, and %q looks like the type: write type = %[1]q, or say both", o.standard)
		}
		o.kind = cmp.Or(o.kind, d.Type())
		if err := o.parse(o.standard); err != nil || o.value.Type() != d.Type() {
			return nil, fmt.Errorf("default: %s is not of the type %s", d, o.kind)
		}
	}
	o.kind = cmp.Or(o.kind, optionTypes[0])
	if err := o.set(&c.m.ws.cfg); err != nil {
		return nil, err
	}
	c.m.restsOn.options = append(c.m.restsOn.options, o.String())
	return o.value, c.m.ws.declareOption(o)
}

// set gives the option the value of the command line, else that of the
// configuration.
func (o *declaredOption) set(cfg *Config) error {
	from, text, found := "-D "+o.name, "", false
	if text, found = cfg.Options[o.name]; !found {
		from = "options." + o.name
		text, found = cfg.Configured[o.name]
	}
	if !found {
		return nil
	}
	if err := o.parse(text); err != nil {
		msg := fmt.Sprintf("%s=%s: %v", from, text, err)
		if o.help != "" {
			msg += "; it is " + o.help
		}
		return &callError{msg, ErrOption}
	}
	return nil
}

// parse sets the value from text.
func (o *declaredOption) parse(text string) error {
	if o.choices != nil && !slices.Contains(o.choices, text) {
		return errors.New(Unknown("unknown value", text, o.choices))
	}
	switch o.kind {
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

// String is what declarations of the option have to agree on.
func (o *declaredOption) String() string {
	return fmt.Sprintf("%s %s %q %q", o.name, o.kind, o.standard, o.choices)
}

// declareOption records the option. Declarations of one name must agree.
func (w *Workspace) declareOption(o declaredOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if said, ok := w.declared[o.name]; ok && said != o.String() {
		return fmt.Errorf("the option %q is declared differently in a file that did not change", o.name)
	}
	old := w.options[o.name]
	if old == nil {
		w.options[o.name] = &o
		return nil
	}
	if old.kind != o.kind || old.standard != o.standard || !slices.Equal(old.choices, o.choices) {
		first, second := old.at, o.at
		if comparePositions(first, second) > 0 {
			first, second = second, first
		}
		return fmt.Errorf("the option %q is declared differently at %s and at %s: make the declarations agree, or load one from the other", o.name, first, second)
	}
	if comparePositions(o.at, old.at) < 0 {
		old.at = o.at
	}
	return nil
}
