package lang

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/near"
)

// Error is one mistake in a build file or in what was asked for.
type Error struct {
	Pos   engine.Position // the place; its File is empty for what was asked on the command line
	Label string          // the target or pattern of the command line that the mistake is about, "" elsewhere
	Stack []Frame         // the calls that led there, the innermost first; Stack[0] is at Pos, and may be alone. Calls in libraries that come with b9 are left out at its begin
	Msg   string
	cause error

	// Within is the calls in libraries that come with b9 that the one at Pos led to, the
	// outermost first. They come last, since nobody can change those libraries.
	Within []Frame

	callee       Frame  // the function, where its parameters are the mistake
	wrongKeyword string // an argument that it does not have
}

// Frame is one call of a call stack: the place in the function Name where it
// called the next one. Name may be unknown.
type Frame struct {
	Pos  engine.Position
	Name string
}

// Error renders the mistake as "file:line:col: message" or "label: message", and
// the callers, if any, one a line below it.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Pos.File != "":
		b.WriteString(e.Pos.String() + ": ")
	case e.Label != "":
		b.WriteString(e.Label + ": ")
	}
	b.WriteString(e.Msg)
	for i := 1; i < len(e.Stack); i++ {
		fmt.Fprintf(&b, "\n\tcalled from %s", e.Stack[i].Pos)
		if e.Stack[i].Name != "" {
			b.WriteString(" in " + e.Stack[i].Name)
		}
	}
	for _, f := range e.Within {
		b.WriteString("\n\t")
		if f.Name != "" {
			b.WriteString("in " + f.Name + "() ")
		}
		b.WriteString("at " + f.Pos.String())
	}
	return b.String()
}

// forUser puts the line of the user's own files first where the innermost calls are those
// of libraries that come with b9, which nobody can change.
func (e *Error) forUser() {
	n := 0
	for n < len(e.Stack) && strings.HasPrefix(e.Stack[n].Pos.File, libraryPrefix) {
		n++
	}
	if n == 0 || n == len(e.Stack) {
		return
	}
	e.Within = slices.Clone(e.Stack[:n])
	slices.Reverse(e.Within)
	e.Stack = e.Stack[n:]
	e.Pos = e.Stack[0].Pos
}

// Unwrap gives the cause, such as fs.ErrNotExist or context.Canceled.
func (e *Error) Unwrap() error { return e.cause }

// Errors is every mistake found, in the order of their places.
type Errors []*Error

// maxReported bounds how many mistakes are printed.
const maxReported = 50

// Error renders one mistake after the other, at most fifty.
func (es Errors) Error() string {
	var b strings.Builder
	for i, e := range es {
		if i == maxReported {
			fmt.Fprintf(&b, "\nand %d more mistakes", len(es)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// Unwrap gives the mistakes one by one, for errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

// sortedErrors sorts the list by place, in itself, and drops duplicates. It
// returns nil for none.
func sortedErrors(list []*Error) error {
	if len(list) == 0 {
		return nil
	}
	for _, e := range list {
		e.forUser()
	}
	slices.SortStableFunc(list, func(a, b *Error) int {
		if order := comparePositions(a.Pos, b.Pos); order != 0 {
			return order
		}
		return strings.Compare(a.Error(), b.Error())
	})
	return Errors(slices.CompactFunc(list, func(a, b *Error) bool { return a.Error() == b.Error() }))
}

func comparePositions(a, b engine.Position) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
}

// positionOf translates a place of the interpreter.
func positionOf(p syntax.Position) engine.Position {
	return engine.Position{File: p.Filename(), Line: int(p.Line), Col: int(p.Col)}
}

// evaluationErrors translates what parsing, name resolution or execution of a
// file returned. The first *Error in the chain of an execution error is
// already complete and is kept as it is.
//
// known is the names that are defined everywhere, for suggestions.
func evaluationErrors(err error, known []string) []*Error {
	var done *Error
	var scan syntax.Error
	var names resolve.ErrorList
	var run *starlark.EvalError
	switch {
	case errors.As(err, &done):
		return []*Error{done}
	case errors.As(err, &scan):
		return []*Error{{Pos: positionOf(scan.Pos), Msg: scan.Msg}}
	case errors.As(err, &names):
		return nameErrors(names, known)
	case errors.As(err, &run):
		return []*Error{runError(run)}
	}
	return []*Error{{Msg: err.Error(), cause: err}}
}

func nameErrors(list resolve.ErrorList, known []string) []*Error {
	out := make([]*Error, len(list))
	for i, e := range list {
		msg := houseHint(e.Msg)
		switch name, ok := strings.CutPrefix(msg, undefined); {
		case ok && !strings.Contains(name, ":"):
			msg = Suggest(msg, name, known)
		case strings.HasPrefix(msg, "cannot reassign "):
			msg += ": a name keeps its first value: use another one here, or put this into a function"
		case strings.HasPrefix(msg, "load: names with leading underscores"):
			msg = fmt.Sprintf("%s is private to its file, as the underscore says: give it a name without one there", msg[strings.LastIndexByte(msg, ' ')+1:])
		}
		out[i] = &Error{Pos: positionOf(e.Pos), Msg: msg}
	}
	return out
}

// undefined begins the message about a name that a file uses and nothing defines.
const undefined = "undefined: "

// tellMeant adds to a mistake of the module's file what looking it up elsewhere tells.
func (m *module) tellMeant(e *Error) {
	if name, ok := strings.CutPrefix(e.Msg, undefined); ok {
		name, _, _ := strings.Cut(name, ":")
		if line := m.loadLine(name); line != "" {
			e.Msg = undefined + name + ": write " + line
		} else if name := near.Match(name, libraryNames()); name != "" && !strings.Contains(e.Msg, "did you mean") {
			e.Msg += fmt.Sprintf(": did you mean %q, of %s?", name, m.loadLine(name))
		}
	}
	if e.wrongKeyword != "" {
		e.Msg += m.ws.keywordMeant(e.callee.Pos.File, e.callee.Name, e.wrongKeyword)
	}
}

// misused recognises what the interpreter says of a call whose arguments don't fit the
// function's parameters; the first group is a parameter that it does not have.
var misused = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^function \S+ (?:got an unexpected keyword argument "([^"]*)"$|got multiple values|missing \d|accepts )`)
})

func runError(e *starlark.EvalError) *Error {
	out := &Error{Msg: houseHint(e.Msg), Stack: framesOf(e.CallStack), cause: e.Unwrap()}
	// The mistake is in the call, where the interpreter shows the function.
	if call := misused().FindStringSubmatch(out.Msg); call != nil && len(out.Stack) > 1 {
		out.callee, out.wrongKeyword = out.Stack[0], call[1]
		out.Stack = out.Stack[1:]
	}
	if len(out.Stack) > 0 {
		out.Pos = out.Stack[0].Pos
	}
	return out
}

// houseHint turns the interpreter's "(did you mean x?)" into our form.
func houseHint(msg string) string {
	const open, end = " (did you mean ", "?)"
	i := strings.LastIndex(msg, open)
	if i < 0 || !strings.HasSuffix(msg, end) {
		return msg
	}
	return fmt.Sprintf("%s: did you mean %q?", msg[:i], msg[i+len(open):len(msg)-len(end)])
}

// framesOf lists the frames that lie in files, innermost first.
func framesOf(stack starlark.CallStack) []Frame {
	frames := make([]Frame, 0, len(stack))
	for _, f := range slices.Backward(stack) {
		if f.Pos.Line > 0 {
			frames = append(frames, Frame{positionOf(f.Pos), f.Name})
		}
	}
	return frames
}

// Suggest appends ": did you mean ...?" where a candidate is close to name.
func Suggest(msg, name string, candidates []string) string {
	return msg + near.Hint(name, candidates)
}

// Unknown says that what has no such name, such as "unknown format" or "the
// step has no output": it lists those there are, and suggests one.
func Unknown(what, name string, have []string) string {
	return Suggest(fmt.Sprintf("%s %q (%s)", what, name, Listed(have)), name, have)
}

// maxListed bounds how many alternatives a message lists.
const maxListed = 12

// Listed renders "have a, b, c" for a message.
func Listed(names []string) string {
	switch {
	case len(names) == 0:
		return "have none"
	case len(names) > maxListed:
		return fmt.Sprintf("have %s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	}
	return "have " + strings.Join(names, ", ")
}

// keywordMeant is the end of an error about an argument that a function does not have:
// the parameter that was meant, or "". file is the one that defines the function.
func (w *Workspace) keywordMeant(file, function, keyword string) string {
	src, err := (&module{ws: w, id: file, library: strings.HasPrefix(file, libraryPrefix)}).read()
	if err != nil {
		return ""
	}
	tree, err := fileOptions().Parse(file, src, 0)
	if err != nil {
		return ""
	}
	names := outline.Parameters(tree, function)
	return fmt.Sprintf(" (%s)", Listed(names)) + near.Hint(keyword, names)
}
