package diagram

import (
	"encoding/xml"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

func randomGraph(r *rand.Rand) []Node {
	nodes := make([]Node, 1+r.Intn(30))
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("//pkg:<%d> & \"more\"", i)
		for j := range i {
			if r.Intn(5) == 0 {
				nodes[i].Needs = append(nodes[i].Needs, j)
			}
		}
	}
	r.Shuffle(len(nodes), func(i, j int) {
		nodes[i], nodes[j] = nodes[j], nodes[i]
		for k := range nodes {
			for n, to := range nodes[k].Needs {
				switch to {
				case i:
					nodes[k].Needs[n] = j
				case j:
					nodes[k].Needs[n] = i
				}
			}
		}
	})
	return nodes
}

// TestLayout lays out random graphs: all that is needed is in a later layer, each edge
// passes each layer between once, and nothing lies on anything else.
func TestLayout(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	for range 300 {
		nodes := randomGraph(r)
		l := lay(nodes, 20, 5)
		for _, layer := range l.layers {
			for i, it := range layer[1:] {
				if before := layer[i]; it.y-it.height/2 < before.y+before.height/2+5-1e-6 {
					t.Fatalf("%v: boxes at %f and %f, %f and %f high", nodes, before.y, it.y, before.height, it.height)
				}
			}
		}
		for i, n := range nodes {
			for _, to := range n.Needs {
				way := l.way(l.nodes[i], l.nodes[to])
				if len(way) != l.nodes[to].layer-l.nodes[i].layer || len(way) == 0 {
					t.Fatalf("%v: the way from %d in layer %d to %d in layer %d has %d points", nodes, i, l.nodes[i].layer, to, l.nodes[to].layer, len(way))
				}
			}
		}
	}
}

// TestLayoutIsStraight draws a chain as a line, and a fork around its middle.
func TestLayoutIsStraight(t *testing.T) {
	l := lay([]Node{{Needs: []int{1, 2, 3}}, {}, {Needs: []int{4}}, {}, {}}, 20, 5)
	if a, b, c := l.nodes[0].y, l.nodes[2].y, l.nodes[4].y; a != b || b != c || l.nodes[1].y >= a || l.nodes[3].y <= a {
		t.Errorf("%f, %f, %f; beside them %f and %f", a, b, c, l.nodes[1].y, l.nodes[3].y)
	}
}

// TestSVG is well-formed, with every node and every edge.
func TestSVG(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	for range 20 {
		nodes := randomGraph(r)
		edges, titles, paths := 0, []string{}, 0
		for _, n := range nodes {
			edges += len(n.Needs)
		}
		dec := xml.NewDecoder(strings.NewReader(SVG(nodes, "a & b")))
		for {
			token, err := dec.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "title" {
				text, _ := dec.Token()
				titles = append(titles, string(text.(xml.CharData)))
			} else if ok && e.Name.Local == "path" {
				paths++
			}
		}
		var want []string
		for _, n := range nodes {
			want = append(want, n.Name)
		}
		if paths != edges+1 || !slices.Equal(titles, want) { // and the arrow's tip
			t.Fatalf("%d paths for %d edges; %q, want %q", paths, edges, titles, want)
		}
	}
	if SVG(nil, "nothing") == "" {
		t.Error("no picture of nothing")
	}
}

// TestTexts writes names that the languages find special.
func TestTexts(t *testing.T) {
	nodes := []Node{{Name: `//:a "quoted" \`, Needs: []int{1}}, {Name: "//:b", Below: "x"}}
	if got, want := Dot(nodes), "digraph b9 {\n  node [shape=box];\n  \"//:a \\\"quoted\\\" \\\\\";\n  \"//:b\";\n  \"//:a \\\"quoted\\\" \\\\\" -> \"//:b\";\n}\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got, want := Mermaid(nodes), "flowchart LR\n  n0[\"//:a #34;quoted#34; #92;\"]\n  n1[\"//:b<br>x\"]\n  n0 --> n1\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// BenchmarkSVG draws a graph of 1,000 nodes.
func BenchmarkSVG(b *testing.B) {
	r := rand.New(rand.NewSource(5))
	nodes := make([]Node, 1000)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("//pkg:target%d", i)
		for range min(i, 3) {
			if to := max(0, i-1-r.Intn(50)); !slices.Contains(nodes[i].Needs, to) {
				nodes[i].Needs = append(nodes[i].Needs, to)
			}
		}
	}
	for b.Loop() {
		SVG(nodes, "")
	}
}
