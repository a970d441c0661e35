package lang

import "go.starlark.net/syntax"

// Names that no build file can write: the guarded operators. See guard.go and
// memory.go.
const (
	guardMul  = "*"
	guardMod  = "%"
	guardAttr = "."
	guardGrow = "="
)

func isGuard(name string) bool { return len(name) == 1 }

// guardedOperators are those that a guard is called in place of: what could make
// one huge value.
func guardedOperators() map[syntax.Token]string {
	return map[syntax.Token]string{
		syntax.STAR: guardMul, syntax.PERCENT: guardMod,
		syntax.PLUS: "+", syntax.MINUS: "-", syntax.PIPE: "|", syntax.AMP: "&", syntax.CIRCUMFLEX: "^",
	}
}

// maxDepth bounds how deeply expressions and statements of a file may nest,
// also where the parser does not nest, as in a chain a.b.c or of elif.
const maxDepth = 5000

// guardFile changes the parsed file in two ways before it is compiled.
// Operators and methods that can make a huge value in one step, where no
// limit would be looked at, call a guard instead: x * y, x + y, and methods such as
// join and append. And calls are placed at the beginning of
// the called name rather than at the parenthesis, which is where a person looks.
func guardFile(f *syntax.File) error {
	g := &guarder{operators: guardedOperators()}
	g.stmts(f.Stmts)
	return g.err
}

type guarder struct {
	operators map[syntax.Token]string
	depth     int
	err       error
}

// enter reports whether to go on below a node at pos; leave must follow when it does.
func (g *guarder) enter(pos syntax.Position) bool {
	if g.err != nil {
		return false
	}
	if g.depth++; g.depth > maxDepth {
		g.err = syntax.Error{Pos: pos, Msg: "excessive nesting"}
		return false
	}
	return true
}

func (g *guarder) leave() { g.depth-- }

func (g *guarder) stmts(list []syntax.Stmt) {
	for _, s := range list {
		g.stmt(s)
	}
}

func (g *guarder) stmt(s syntax.Stmt) {
	switch s := s.(type) {
	case *syntax.AssignStmt:
		g.assign(s)
	case *syntax.DefStmt:
		g.exprs(s.Params)
		g.stmts(s.Body)
	case *syntax.ExprStmt:
		s.X = g.expr(s.X)
	case *syntax.ForStmt:
		s.X = g.expr(s.X)
		s.Vars = g.expr(s.Vars)
		g.stmts(s.Body)
	case *syntax.WhileStmt:
		s.Cond = g.expr(s.Cond)
		g.stmts(s.Body)
	case *syntax.IfStmt:
		g.ifStmt(s)
	case *syntax.ReturnStmt:
		s.Result = g.expr(s.Result)
	}
}

// ifStmt walks a chain of elif, each of which lies in the one before.
func (g *guarder) ifStmt(s *syntax.IfStmt) {
	if !g.enter(s.If) {
		return
	}
	defer g.leave()
	s.Cond = g.expr(s.Cond)
	g.stmts(s.True)
	g.stmts(s.False)
}

// assign turns x *= y into x = x * y, so that it is guarded as well.
func (g *guarder) assign(s *syntax.AssignStmt) {
	if op, guarded := guardedAssign(s.Op); guarded {
		target, ok := again(s.LHS)
		if !ok {
			g.err = syntax.Error{Pos: s.OpPos, Msg: "the left side of " + s.Op.String() + " is too complex: give its parts names first"}
			return
		}
		s.RHS = &syntax.BinaryExpr{X: target, OpPos: s.OpPos, Op: op, Y: &syntax.ParenExpr{Lparen: s.OpPos, X: s.RHS, Rparen: s.OpPos}}
		s.Op = syntax.EQ
	}
	s.RHS = g.expr(s.RHS)
	if growing(s.Op) && !isInt(s.RHS) {
		g.grow(s)
	}
	s.LHS = g.expr(s.LHS)
}

// growing reports whether an assignment makes a value of the old one and another.
func growing(op syntax.Token) bool {
	switch op {
	case syntax.PLUS_EQ, syntax.MINUS_EQ, syntax.PIPE_EQ, syntax.AMP_EQ, syntax.CIRCUMFLEX_EQ:
		return true
	}
	return false
}

// grow turns x += y into x += grow(x, y), which is y. Where x can't be evaluated
// twice it stands for as much as y.
func (g *guarder) grow(s *syntax.AssignStmt) {
	old, ok := again(s.LHS)
	if !ok {
		old, ok = again(s.RHS)
	}
	if ok {
		s.RHS = guardCall(guardGrow, s.OpPos, g.expr(old), s.RHS)
	}
}

func guardedAssign(op syntax.Token) (syntax.Token, bool) {
	switch op {
	case syntax.STAR_EQ:
		return syntax.STAR, true
	case syntax.PERCENT_EQ:
		return syntax.PERCENT, true
	}
	return 0, false
}

// again copies an expression that may be evaluated twice: names, literals,
// and selections among them.
func again(e syntax.Expr) (syntax.Expr, bool) {
	switch e := e.(type) {
	case *syntax.Ident:
		return &syntax.Ident{NamePos: e.NamePos, Name: e.Name}, true
	case *syntax.Literal:
		return e, true
	case *syntax.ParenExpr:
		return again(e.X)
	case *syntax.DotExpr:
		x, ok := again(e.X)
		return &syntax.DotExpr{X: x, Dot: e.Dot, NamePos: e.NamePos, Name: e.Name}, ok
	case *syntax.IndexExpr:
		x, okX := again(e.X)
		y, okY := again(e.Y)
		return &syntax.IndexExpr{X: x, Lbrack: e.Lbrack, Y: y, Rbrack: e.Rbrack}, okX && okY
	}
	return nil, false
}

func (g *guarder) exprs(list []syntax.Expr) {
	for i, e := range list {
		list[i] = g.expr(e)
	}
}

// expr rewrites an expression and returns what takes its place.
func (g *guarder) expr(e syntax.Expr) syntax.Expr {
	var pos syntax.Position
	switch e := e.(type) {
	case nil, *syntax.Ident, *syntax.Literal:
		return e
	case *syntax.BinaryExpr:
		pos = e.OpPos
	}
	if !g.enter(pos) {
		return e
	}
	defer g.leave()
	return g.compound(e)
}

// binary guards x * y and x % y; f(k=v) and def f(p=v) are binary as well.
func (g *guarder) binary(e *syntax.BinaryExpr) syntax.Expr {
	e.X, e.Y = g.expr(e.X), g.expr(e.Y)
	x, y := isInt(e.X), isInt(e.Y)
	switch name := g.operators[e.Op]; {
	case name == "" || x && y:
	case (x || y) && name != guardMul && name != guardMod: // only numbers go with a number
	default:
		return guardCall(name, e.OpPos, e.X, e.Y)
	}
	return e
}

func isInt(e syntax.Expr) bool {
	x, ok := e.(*syntax.Literal)
	return ok && x.Token == syntax.INT
}

func guardCall(name string, pos syntax.Position, args ...syntax.Expr) syntax.Expr {
	return &syntax.CallExpr{Fn: &syntax.Ident{NamePos: pos, Name: name}, Lparen: pos, Args: args, Rparen: pos}
}

// compound rewrites the expressions that have others in them.
func (g *guarder) compound(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.BinaryExpr:
		return g.binary(e)
	case *syntax.ParenExpr:
		e.X = g.expr(e.X)
	case *syntax.CallExpr:
		g.call(e)
	case *syntax.DotExpr:
		return g.dot(e)
	case *syntax.Comprehension:
		g.comprehension(e)
	case *syntax.CondExpr:
		e.Cond, e.True, e.False = g.expr(e.Cond), g.expr(e.True), g.expr(e.False)
	case *syntax.DictEntry:
		e.Key, e.Value = g.expr(e.Key), g.expr(e.Value)
	case *syntax.DictExpr:
		g.exprs(e.List)
	case *syntax.IndexExpr:
		e.X, e.Y = g.expr(e.X), g.expr(e.Y)
	case *syntax.LambdaExpr:
		g.exprs(e.Params)
		e.Body = g.expr(e.Body)
	case *syntax.ListExpr:
		g.exprs(e.List)
	case *syntax.SliceExpr:
		e.X, e.Lo, e.Hi, e.Step = g.expr(e.X), g.expr(e.Lo), g.expr(e.Hi), g.expr(e.Step)
	case *syntax.TupleExpr:
		g.exprs(e.List)
	case *syntax.UnaryExpr:
		e.X = g.expr(e.X)
	}
	return e
}

// call puts the place of the call at the name that is called.
func (g *guarder) call(e *syntax.CallExpr) {
	switch fn := e.Fn.(type) {
	case *syntax.Ident:
		e.Lparen = fn.NamePos
	case *syntax.DotExpr:
		e.Lparen = fn.Name.NamePos
	}
	e.Fn = g.expr(e.Fn)
	g.exprs(e.Args)
}

// isGuardedMethod picks those whose result can be far larger than everything that went
// in, and those that make or move a copy of what may be huge.
func isGuardedMethod(name string) bool {
	switch name {
	case "format", "join", "replace",
		"split", "rsplit", "splitlines", "upper", "lower", "title", "capitalize",
		"append", "extend", "insert", "keys", "values", "items", "update", "union":
		return true
	}
	return false
}

func (g *guarder) dot(e *syntax.DotExpr) syntax.Expr {
	e.X = g.expr(e.X)
	if !isGuardedMethod(e.Name.Name) {
		return e
	}
	pos := e.Name.NamePos
	name := &syntax.Literal{Token: syntax.STRING, TokenPos: pos, Raw: `"` + e.Name.Name + `"`, Value: e.Name.Name}
	return guardCall(guardAttr, pos, e.X, name)
}

func (g *guarder) comprehension(e *syntax.Comprehension) {
	e.Body = g.expr(e.Body)
	for _, c := range e.Clauses {
		switch c := c.(type) {
		case *syntax.ForClause:
			c.X, c.Vars = g.expr(c.X), g.expr(c.Vars)
		case *syntax.IfClause:
			c.Cond = g.expr(c.Cond)
		}
	}
}
