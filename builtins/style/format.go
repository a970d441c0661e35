package style

import (
	"errors"
	"fmt"

	"github.com/bazelbuild/buildtools/build"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// Format lays out a Starlark file as Buildifier does it for files that are no Bazel
// packages: indentation, spaces, quotation marks, trailing commas; loads stand first and
// sorted, and so are their names. Nothing else moves, and what the file means stays the
// same. The error is a [lang.Errors] for what is no Starlark.
func Format(name string, src []byte) ([]byte, error) {
	if _, err := lang.ParseFile(name, src); err != nil {
		return nil, err
	}
	f, err := build.ParseDefault(name, src)
	if err != nil {
		return nil, lang.Errors{{Pos: placeIn(name, err), Msg: "b9 reads this, and what lays files out does not: " + err.Error()}}
	}
	(&build.Rewriter{RewriteSet: rewrites()}).Rewrite(f)
	laid := build.FormatWithoutRewriting(f)
	if _, err := lang.ParseFile(name, laid); err != nil {
		return nil, fmt.Errorf("laid out, b9 would not read it: %w", err)
	}
	return laid, nil
}

// rewrites are Buildifier's beyond the layout. It has more for Bazel's packages, and two
// that take some numbers for others.
func rewrites() []string {
	return []string{"loadTop", "sameOriginLoad", "sortLoadStatements", "loadsort", "formatdocstrings", "reorderarguments", "collapseEmpty"}
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
