package engine

// Reachable lists the nodes that refs need, each once and inputs before what
// uses them.
func Reachable(refs ...Ref) []*Node {
	nodes, _ := inOrder(refs)
	return nodes
}

// inOrder lists the nodes that refs need, inputs before what uses them, and
// where each stands in the list. It keeps its own stack, for a graph may be
// deeper than is good for recursion.
func inOrder(refs []Ref) (nodes []*Node, at map[*Node]int) {
	type frame struct {
		node *Node
		next int // of the inputs: the first that was not visited
	}
	const open = -1 // on the stack
	at = map[*Node]int{}
	var stack []frame
	for _, ref := range refs {
		if _, known := at[ref.Node]; known {
			continue
		}
		at[ref.Node] = open
		stack = append(stack, frame{node: ref.Node})
		for len(stack) > 0 {
			f := &stack[len(stack)-1]
			if f.next == len(f.node.opts.Inputs) {
				at[f.node] = len(nodes)
				nodes = append(nodes, f.node)
				stack = stack[:len(stack)-1]
				continue
			}
			in := f.node.opts.Inputs[f.next].Ref.Node
			f.next++
			if _, known := at[in]; !known {
				at[in] = open
				stack = append(stack, frame{node: in})
			}
		}
	}
	return nodes, at
}

// plan is the steps of one build and how they hang together. It is made
// before anything is looked up or run, and says nothing about either.
type plan struct {
	steps []step        // inputs before what uses them
	total int64         // the steps that are not sources read in place
	at    map[*Node]int // the index of a node's step
}

// newPlan makes a step of every node that refs need.
func newPlan(refs []Ref) *plan {
	nodes, at := inOrder(refs)
	p := &plan{steps: make([]step, len(nodes)), at: at}
	for i, n := range nodes {
		s := &p.steps[i]
		s.node = n
		if _, located := locatedAt(n); !located {
			p.total++
		}
		s.inputs = make([]*step, len(n.opts.Inputs))
		for j, in := range n.opts.Inputs {
			dep := p.of(in.Ref.Node)
			s.inputs[j] = dep
			dep.dependents = append(dep.dependents, s)
		}
		s.waiting.Store(int32(len(s.inputs)))
	}
	for _, ref := range refs {
		p.of(ref.Node).wanted = true
	}
	return p
}

// of is the step of a node of the plan.
func (p *plan) of(n *Node) *step { return &p.steps[p.at[n]] }

// has reports whether the step of the ref is done and its content can be read.
func (p *plan) has(ref Ref) bool {
	list := p.of(ref.Node).artifacts()
	return list != nil && present(list)
}

// locatedAt is where the output of a located source lies.
func locatedAt(n *Node) (path string, ok bool) {
	loc, ok := n.action.(Located)
	if !ok {
		return "", false
	}
	path, _ = loc.Locate()
	return path, path != ""
}
