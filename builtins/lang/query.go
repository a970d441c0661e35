package lang

// reachable lists everything the declarations need, what is needed first,
// and they themselves.
func reachable(roots []*declaration) []*declaration {
	var order []*declaration
	seen := map[*declaration]bool{}
	var path []step
	for _, root := range roots {
		if !seen[root] {
			seen[root] = true
			path = append(path, step{d: root})
		}
		for len(path) > 0 {
			top := &path[len(path)-1]
			in := top.d.input(top.next)
			top.next++
			switch {
			case in == nil:
				order = append(order, top.d)
				path = path[:len(path)-1]
			case in.decl != nil && !seen[in.decl]:
				seen[in.decl] = true
				path = append(path, step{d: in.decl})
			}
		}
	}
	return order
}

// order is everything reachable, what is needed first.
func (g *Graph) order() []*declaration {
	g.once.Do(func() { g.all = reachable(g.roots) })
	return g.all
}

// target returns the target of a declaration, the same one every time.
func (g *Graph) target(d *declaration) *Target {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = make(map[*declaration]*Target, len(g.Targets))
		for _, t := range g.Targets {
			g.known[t.decl] = t
		}
	}
	t := g.known[d]
	if t == nil {
		made := newTarget(d)
		t = &made
		g.known[d] = t
	}
	return t
}

// Deps lists what the targets need, directly and through others, and they
// themselves, what is needed first.
func (g *Graph) Deps(of ...*Target) []*Target {
	roots := make([]*declaration, len(of))
	for i, t := range of {
		roots[i] = t.decl
	}
	return g.convert(reachable(roots))
}

// Direct lists what the target needs directly, in the order of its inputs.
func (g *Graph) Direct(of *Target) []*Target {
	var list []*declaration
	for i := 0; ; i++ {
		in := of.decl.input(i)
		if in == nil {
			return g.convert(list)
		}
		if in.decl != nil {
			list = append(list, in.decl)
		}
	}
}

// Rdeps lists what, among everything in the graph, needs one of the targets,
// directly or through others, and they themselves, what is needed first.
func (g *Graph) Rdeps(of ...*Target) []*Target {
	needs := map[*declaration]bool{}
	for _, t := range of {
		needs[t.decl] = true
	}
	var list []*declaration
	for _, d := range g.order() {
		for i := 0; !needs[d]; i++ {
			in := d.input(i)
			if in == nil {
				break
			}
			needs[d] = needs[in.decl]
		}
		if needs[d] {
			list = append(list, d)
		}
	}
	return g.convert(list)
}

// Kind lists everything in the graph that the operation of that name made,
// or all source files for "source".
func (g *Graph) Kind(builtin string) []*Target {
	var list []*declaration
	for _, d := range g.order() {
		if d.op == builtin && d.picked == "" {
			list = append(list, d)
		}
	}
	return g.convert(list)
}

func (g *Graph) convert(list []*declaration) []*Target {
	out := make([]*Target, len(list))
	for i, d := range list {
		out[i] = g.target(d)
	}
	return out
}
