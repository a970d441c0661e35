package style

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/bazelbuild/buildtools/build"
	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// Format lays out a Starlark file as Buildifier does it for files that are no Bazel
// packages: indentation, spaces, quotation marks, trailing commas; loads stand first and
// sorted, and so are their names. Nothing else moves, and what the file means stays the
// same. The error is a [lang.Errors] for what is no Starlark.
func Format(name string, src []byte) ([]byte, error) {
	tree, err := lang.ParseFile(name, src)
	if err != nil {
		return nil, err
	}
	f, err := build.ParseDefault(name, src)
	if err != nil {
		return nil, lang.Errors{{Pos: placeIn(name, err), Msg: "b9 reads this, and what lays files out does not: " + err.Error()}}
	}
	build.Edit(f, keepText)
	(&build.Rewriter{RewriteSet: rewrites()}).Rewrite(f)
	laid := build.FormatWithoutRewriting(f)
	after, err := lang.ParseFile(name, laid)
	if err != nil || !slices.Equal(literals(tree), literals(after)) {
		return nil, lang.Errors{{Pos: engine.Position{File: name, Line: 1, Col: 1}, Msg: "laid out, it would mean something else: it stays as it is"}}
	}
	return laid, nil
}

// rewrites are Buildifier's beyond the layout. It has more for Bazel's packages, and two
// that take some numbers for others.
func rewrites() []string {
	return []string{"loadTop", "sameOriginLoad", "sortLoadStatements", "loadsort", "formatdocstrings", "reorderarguments", "collapseEmpty"}
}

// keepText makes strings with escapes, or with more than ASCII, stand as they were written:
// the printer, which takes files for Latin-1, would write other strings.
func keepText(x build.Expr, parents []build.Expr) build.Expr {
	s, ok := x.(*build.StringExpr)
	special := func(r rune) bool { return r == '\\' || r > unicode.MaxASCII }
	if !ok || !strings.ContainsFunc(s.Token, special) {
		return nil
	}
	inLoad := func(x build.Expr) bool { _, load := x.(*build.LoadStmt); return load }
	if slices.ContainsFunc(parents, inLoad) { // which has room for strings alone
		return nil
	}
	token := s.Token
	if plain := strings.Trim(token, "'"); !strings.ContainsAny(plain, `'"\`) && len(token) == len(plain)+2 {
		token = `"` + plain + `"`
	}
	return &build.LiteralExpr{Comments: s.Comments, Start: s.Start, Token: token}
}

// placeIn is where the other parser stopped.
func placeIn(name string, err error) engine.Position {
	pos := engine.Position{File: name, Line: 1, Col: 1}
	var at build.ParseError
	if errors.As(err, &at) {
		pos.Line, pos.Col = at.Pos.Line, at.Pos.LineRune
	}
	return pos
}

// literals are the strings and numbers of a file, but for docstrings and loads, sorted.
func literals(tree *syntax.File) []string {
	var all []string
	syntax.Walk(tree, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.LoadStmt:
			return false
		case *syntax.ExprStmt:
			if _, doc := n.X.(*syntax.Literal); doc {
				return false
			}
		case *syntax.Literal:
			all = append(all, fmt.Sprint(n.Value))
		}
		return true
	})
	slices.Sort(all)
	return all
}
