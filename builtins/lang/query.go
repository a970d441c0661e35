package lang

import "slices"

// reachable lists everything the roots need, what is needed first, and they
// themselves.
func reachable(roots []*Target) []*Target {
	var order []*Target
	var path []step
	seen := map[*declaration]bool{}
	enter := func(d *declaration) {
		if d != nil && !seen[d] {
			seen[d] = true
			path = append(path, step{d: d})
		}
	}
	for _, root := range roots {
		enter(root.decl)
		for len(path) > 0 {
			top := &path[len(path)-1]
			if in := top.d.input(top.next); in != nil {
				top.next++
				enter(in.decl)
				continue
			}
			order = append(order, &top.d.link.target)
			path = path[:len(path)-1]
		}
	}
	return order
}

// Deps lists what the targets need, directly and through others, and they
// themselves, what is needed first.
func (g *Graph) Deps(of ...*Target) []*Target { return reachable(of) }

// Rdeps lists what, among everything in the graph, needs one of the targets,
// directly or through others, and they themselves, what is needed first.
func (g *Graph) Rdeps(of ...*Target) []*Target {
	needs := map[*declaration]bool{}
	for _, t := range of {
		needs[t.decl] = true
	}
	var list []*Target
	for _, t := range reachable(g.Targets) {
		for in := range t.decl.inputs() {
			needs[t.decl] = needs[t.decl] || needs[in.decl]
		}
		if needs[t.decl] {
			list = append(list, t)
		}
	}
	return list
}

// Kind lists everything in the graph that the operation of that name made,
// or all source files for "source".
func (g *Graph) Kind(builtin string) []*Target {
	return slices.DeleteFunc(reachable(g.Targets), func(t *Target) bool {
		return t.Builtin != builtin || t.decl.picked != ""
	})
}
