package lang

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/lib/json"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

// The largest values that one operation of the language may make.
const (
	maxRepeatBytes = 64 << 20
	maxRepeatParts = 4 << 20
	maxIntBits     = 1 << 16
	maxRange       = 10_000_000
	maxJSONDepth   = 1000
)

type builtinFunc func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)

// universe is a function of the interpreter's own.
func universe(name string) *starlark.Builtin { return starlark.Universe[name].(*starlark.Builtin) }

// guarded is the function, called only with arguments that check allows.
func guarded(original *starlark.Builtin, check func(args starlark.Tuple, kwargs []starlark.Tuple) error) *starlark.Builtin {
	name := original.Name()
	return starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if err := check(args, kwargs); err != nil {
			return nil, fmt.Errorf("%s(): %w", name, err)
		}
		return original.CallInternal(thread, args, kwargs)
	})
}

// languageNames is what the language itself offers in place of, or beside,
// the interpreter's own: the guarded operators and functions, struct, json and testing.
func languageNames() starlark.StringDict {
	env := starlark.StringDict{
		"struct":  starlark.NewBuiltin("struct", starlarkstruct.Make),
		"json":    guardedJSON(),
		"testing": testingModule(),
		"str":     textOf("str", false),
		"repr":    textOf("repr", false),
		"print":   textOf("print", true),
	}
	for name, fn := range map[string]builtinFunc{
		guardMul:  mul,
		guardMod:  mod,
		guardAttr: getattr,
		guardGrow: grow,
		"getattr": getattr,
		"range":   boundedRange,
		"fail":    fail,
	} {
		env[name] = starlark.NewBuiltin(name, fn)
	}
	for op, name := range guardedOperators() {
		if env[name] == nil {
			env[name] = starlark.NewBuiltin(name, binary(op))
		}
	}
	for name, each := range map[string]int{
		"list": madeBytes, "tuple": madeBytes, "sorted": elementBytes, "reversed": elementBytes,
		"enumerate": pairBytes, "zip": pairBytes, "dict": entryBytes, "set": entryBytes, "bytes": 1,
	} {
		env[name] = collecting(name, each)
	}
	return env
}

// textOf is the interpreter's own function, called only with values that may
// become text.
func textOf(name string, handles bool) *starlark.Builtin {
	return guarded(universe(name), func(args starlark.Tuple, _ []starlark.Tuple) error { return CheckText(args, handles) })
}

// fail is the interpreter's, with its error in our form.
func fail(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := CheckText(args, true); err != nil {
		return nil, fmt.Errorf("fail(): %w", err)
	}
	_, err := universe("fail").CallInternal(thread, args, kwargs)
	return nil, errors.New("fail(): " + strings.TrimPrefix(err.Error(), "fail: "))
}

// mul is x * y within the limits.
func mul(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	x, y := args[0], args[1]
	n, isInt := x.(starlark.Int)
	other := y
	if !isInt {
		n, isInt = y.(starlark.Int)
		other = x
	}
	size := 0
	if isInt {
		if err := checkRepeat(n, other); err != nil {
			return nil, err
		}
		count, _ := n.Int64()
		size = bytesOf(other) * int(max(0, count))
	}
	return making(thread, size, func() (starlark.Value, error) { return starlark.Binary(syntax.STAR, x, y) })
}

func checkRepeat(n starlark.Int, v starlark.Value) error {
	length, limit := 0, maxRepeatParts
	switch v := v.(type) {
	case starlark.Int:
		if bits(n)+bits(v) > maxIntBits {
			return fmt.Errorf("the product has more than %d bits", maxIntBits)
		}
		return nil
	case starlark.String, starlark.Bytes:
		length, limit = starlark.Len(v), maxRepeatBytes
	case *starlark.List, starlark.Tuple:
		length = starlark.Len(v)
	}
	count, ok := n.Int64()
	if length > 0 && n.Sign() > 0 && (!ok || count > int64(limit/length)) {
		return fmt.Errorf("the result of %s * %s is too large: at most %d", v.Type(), n, limit)
	}
	return nil
}

func bits(n starlark.Int) int {
	if _, small := n.Int64(); small {
		return 64
	}
	return n.BigInt().BitLen()
}

// mod is x % y, where a text is formatted only with values that may become text.
func mod(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	if format, ok := args[0].(starlark.String); ok {
		if err := checkFormat(strings.Count(string(format), "%("), args[1:]); err != nil {
			return nil, err
		}
	}
	return starlark.Binary(syntax.PERCENT, args[0], args[1])
}

// checkFormat checks the values that go into a format, each perhaps as often
// as the format can name it.
func checkFormat(times int, values []starlark.Value) error {
	m := measure{parts: maxTextParts / max(1, times), bytes: maxTextBytes / max(1, times)}
	return m.elements(starlark.Tuple(values), 0)
}

// getattr is the interpreter's, except that it gives the guarded methods. It
// stands for x.name, too, where name is one of theirs.
func getattr(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) == 2 {
		list, ok := args[0].(*starlark.List)
		if ok && list.Len() < largeValue/elementBytes/2 && args[1] == starlark.Value(starlark.String("append")) {
			return list.Attr("append") // so common, and so small
		}
	}
	method, err := universe("getattr").CallInternal(thread, args, kwargs)
	fn, isMethod := method.(*starlark.Builtin)
	if err != nil || !isMethod || fn.Receiver() == nil || !isGuardedMethod(fn.Name()) {
		return method, err
	}
	return guardedMethod(fn), nil
}

// guardedMethod is the method, which looks at its arguments first, or at the size
// of what it is a method of.
func guardedMethod(method *starlark.Builtin) *starlark.Builtin {
	s, _ := method.Receiver().(starlark.String)
	switch method.Name() {
	case "join":
		return guarded(method, func(args starlark.Tuple, kwargs []starlark.Tuple) error { return checkJoin(s, args, kwargs) })
	case "replace":
		return guarded(method, func(args starlark.Tuple, kwargs []starlark.Tuple) error { return checkReplace(s, args, kwargs) })
	case "format":
		return guarded(method, func(args starlark.Tuple, kwargs []starlark.Tuple) error { return checkFormatCall(s, args, kwargs) })
	}
	return roomyMethod(method)
}

// roomyMethod is the method, called only where there is room for what it makes.
func roomyMethod(method *starlark.Builtin) *starlark.Builtin {
	v, name := method.Receiver(), method.Name()
	if !takesMore(name) && bytesOf(v) < largeValue/madeBytes {
		return method // as nearly always
	}
	return starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return making(thread, methodBytes(v, name, args), func() (starlark.Value, error) { return method.CallInternal(thread, args, kwargs) })
	})
}

func checkJoin(sep starlark.String, args starlark.Tuple, _ []starlark.Tuple) error {
	if len(args) != 1 {
		return nil
	}
	list, ok := args[0].(starlark.Iterable)
	if !ok {
		return nil
	}
	total := 0
	for v := range starlark.Elements(list) {
		if h, ok := v.(*Handle); ok {
			return notText(h)
		}
		text, _ := v.(starlark.String)
		if total += len(text) + len(sep); total > maxRepeatBytes {
			return fmt.Errorf("the result is larger than %d bytes", maxRepeatBytes)
		}
	}
	return nil
}

func checkReplace(s starlark.String, args starlark.Tuple, _ []starlark.Tuple) error {
	if len(args) < 2 {
		return nil
	}
	from, _ := args[0].(starlark.String)
	to, _ := args[1].(starlark.String)
	if len(to) > len(from) && strings.Count(string(s), string(from)) > maxRepeatBytes/len(to) {
		return fmt.Errorf("the result is larger than %d bytes", maxRepeatBytes)
	}
	return nil
}

func checkFormatCall(s starlark.String, args starlark.Tuple, kwargs []starlark.Tuple) error {
	values := slices.Clone(args)
	for _, kv := range kwargs {
		values = append(values, kv[1])
	}
	return checkFormat(strings.Count(string(s), "{"), values)
}

// boundedRange is range() with at most maxRange numbers, since everything
// that could be made too long in one step starts from a range.
func boundedRange(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := universe("range").CallInternal(thread, args, kwargs)
	if err != nil {
		return nil, err
	}
	if n := starlark.Len(v); n > maxRange {
		return nil, fmt.Errorf("range(): %d numbers, more than %d", n, maxRange)
	}
	return v, nil
}

// guardedJSON is the json module, with limits on what goes in.
func guardedJSON() *starlarkstruct.Module {
	module := &starlarkstruct.Module{Name: "json", Members: starlark.StringDict{}}
	for name, member := range json.Module.Members {
		module.Members[name] = guarded(member.(*starlark.Builtin), checkJSON)
	}
	module.Freeze()
	return module
}

func checkJSON(args starlark.Tuple, _ []starlark.Tuple) error {
	if err := CheckText(args, false); err != nil {
		return err
	}
	for _, v := range args {
		if s, ok := v.(starlark.String); ok && jsonDepth(string(s)) > maxJSONDepth {
			return fmt.Errorf("the text is nested more than %d deep", maxJSONDepth)
		}
	}
	return nil
}

// jsonDepth is how deep the brackets of a JSON text nest, not counting those in strings.
func jsonDepth(s string) int {
	depth, deepest, inString := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}
