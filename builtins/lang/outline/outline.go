// Package outline reads what the text of a build file or library tells without being
// evaluated: the names that it gives to targets ([Targets]), the functions that it
// defines ([Functions]) and their parameters ([Parameters]). Names that are computed it
// does not see. It knows nothing of b9 but that calls name their targets.
package outline

import (
	"strings"

	"go.starlark.net/syntax"
)

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
