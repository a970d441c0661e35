package build

import (
	"context"
	"slices"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// rerunning finds the steps of a build that are to run again: those of the targets
// that the patterns name, or a step by its title, such as "//:web (lxc_exec)".
// With keep, mistakes that concern none of them do not matter.
func rerunning(ctx context.Context, ws *session.Workspace, g *lang.Graph, patterns []string, keep bool) (func(*engine.Node) bool, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	nodes := engine.Reachable(Refs(g)...)
	chosen := map[*engine.Node]bool{}
	for _, text := range patterns {
		named, err := stepsNamed(ctx, ws, nodes, text, keep)
		if err != nil {
			return nil, err
		}
		named = slices.DeleteFunc(named, func(n *engine.Node) bool { return !slices.Contains(nodes, n) || n.Builtin() == "source" })
		if len(named) == 0 {
			return nil, exit.Usagef("--rerun %s: the build has no such step: name one of what it builds, as b9 explain --all lists them", text)
		}
		for _, n := range named {
			chosen[n] = true
		}
	}
	return func(n *engine.Node) bool { return chosen[n] }, nil
}

func stepsNamed(ctx context.Context, ws *session.Workspace, nodes []*engine.Node, text string, keep bool) ([]*engine.Node, error) {
	if i := slices.IndexFunc(nodes, func(n *engine.Node) bool { return n.Label() == text }); i >= 0 {
		return []*engine.Node{nodes[i]}, nil
	}
	g, err := ws.ResolveUsable(ctx, []string{text})
	if err != nil && (!keep || g == nil || len(g.Targets) == 0) {
		return nil, err
	}
	var named []*engine.Node
	for _, ref := range Refs(g) {
		named = append(named, ref.Node)
	}
	return named, nil
}
