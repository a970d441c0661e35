// Package outline reads what the text of a build file or library tells without being
// evaluated: the names that it gives to targets ([Targets]), the functions that it
// defines ([Functions], [Defined]) and their parameters ([Parameters]), and where a call has an
// argument ([Argument]). Names that are computed it
// does not see. It knows nothing of b9 but that calls name their targets.
package outline

import (
	"strings"

	"go.starlark.net/syntax"
)

// File is the text of a build file or library, parsed.
type File = syntax.File

// Parse parses a build file or library as b9 does, without a look at what its names are.
func Parse(name string, text []byte) (*File, error) {
	options := syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true, Recursion: true}
	return options.Parse(name, text, 0)
}

// Targets lists the strings that calls in the file give as name=, else as their first
// argument. Not each is the name of a target.
func Targets(file *syntax.File) []string {
	var names []string
	syntax.Walk(file, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok {
			if name := nameGiven(call); name != "" {
				names = append(names, name)
			}
		}
		return true
	})
	return names
}

// nameGiven is the text that a call gives as name=, else as its first argument.
func nameGiven(call *syntax.CallExpr) string {
	first := ""
	for i, arg := range call.Args {
		key, value := argument(arg)
		switch {
		case key == "name":
			return text(value)
		case key == "" && i == 0:
			first = text(value)
		}
	}
	return first
}

// argument splits NAME=VALUE; of an argument without a name the name is "".
func argument(arg syntax.Expr) (name string, value syntax.Expr) {
	pair, ok := arg.(*syntax.BinaryExpr)
	if !ok || pair.Op != syntax.EQ {
		return "", arg
	}
	if id, ok := pair.X.(*syntax.Ident); ok {
		name = id.Name
	}
	return name, pair.Y
}

// text is the value of a string literal, "" of anything else.
func text(e syntax.Expr) string {
	lit, ok := e.(*syntax.Literal)
	if !ok {
		return ""
	}
	s, _ := lit.Value.(string)
	return s
}

// Functions lists the functions that the file defines for others: those of its top level
// whose names do not begin with an underscore.
func Functions(file *syntax.File) []string {
	var names []string
	for _, s := range file.Stmts {
		if def, ok := s.(*syntax.DefStmt); ok && !strings.HasPrefix(def.Name.Name, "_") {
			names = append(names, def.Name.Name)
		}
	}
	return names
}

// Defined is where the top level of the file defines a function, 0, 0 for nowhere.
func Defined(file *syntax.File, function string) (line, col int) {
	for _, s := range file.Stmts {
		if def, ok := s.(*syntax.DefStmt); ok && def.Name.Name == function {
			return int(def.Def.Line), int(def.Def.Col)
		}
	}
	return 0, 0
}

// Parameters lists the parameters that a call of a function of the file may give by
// their names. Functions of the same name count together.
func Parameters(file *syntax.File, function string) []string {
	var names []string
	syntax.Walk(file, func(n syntax.Node) bool {
		if def, ok := n.(*syntax.DefStmt); ok && def.Name.Name == function {
			names = append(names, parameters(def)...)
		}
		return true
	})
	return names
}

func parameters(def *syntax.DefStmt) []string {
	var names []string
	for _, p := range def.Params {
		name, value := argument(p)
		if id, ok := value.(*syntax.Ident); ok && name == "" {
			name = id.Name
		}
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Argument finds where the call at a place, that of its function or of its opening
// parenthesis, has an argument: by its name, else, if index is not negative, as that of
// the leading ones without a name. ok is false where there is none.
func Argument(file *File, line, col int, name string, index int) (argLine, argCol int, ok bool) {
	syntax.Walk(file, func(n syntax.Node) bool {
		call, isCall := n.(*syntax.CallExpr)
		if !isCall || ok || !isAt(call, line, col) {
			return !ok
		}
		for i, arg := range call.Args {
			if key, _ := argument(arg); key == name || key == "" && i == index {
				at, _ := arg.Span()
				argLine, argCol, ok = int(at.Line), int(at.Col), true
			}
		}
		return !ok
	})
	return argLine, argCol, ok
}

// Element finds the element of the list that the call at a place is given for a parameter;
// ok is false where the list is not written there as one.
func Element(file *File, line, col int, param string, index int) (atLine, atCol int, ok bool) {
	syntax.Walk(file, func(n syntax.Node) bool {
		call, isCall := n.(*syntax.CallExpr)
		if !isCall || ok || !isAt(call, line, col) {
			return !ok
		}
		for _, arg := range call.Args {
			key, value := argument(arg)
			if list, isList := value.(*syntax.ListExpr); isList && key == param && index < len(list.List) {
				at, _ := list.List[index].Span()
				atLine, atCol, ok = int(at.Line), int(at.Col), true
			}
		}
		return !ok
	})
	return atLine, atCol, ok
}

// isAt reports whether the call is the one at a place.
func isAt(call *syntax.CallExpr, line, col int) bool {
	start, _ := call.Span()
	is := func(p syntax.Position) bool { return int(p.Line) == line && int(p.Col) == col }
	return is(start) || is(call.Lparen)
}
