package diagram

import (
	"cmp"
	"slices"
)

// How a graph is laid out
//
// The way of Sugiyama, Tagawa and Toda (1981), from left to right. What nothing needs is
// in the first layer, and all else one layer behind the last that needs it; an edge that
// passes layers has a point in each of them. Within a layer nodes and points are sorted by
// the mean of the places of their neighbours, to and fro, which leaves few crossings. Then
// each comes as close to its neighbours as the order and the distances allow: of all
// heights that keep them those with the least sum of squares, which pooling neighbours
// that are in each other's way finds in one pass (isotonic regression).

// item is a node in its layer, or the point of an edge that passes it.
type item struct {
	node   int // -1 for a point
	layer  int
	place  int // in the layer
	height float64
	y      float64 // of the middle
	back   []*item // neighbours in the layer before
	ahead  []*item // and behind
}

// layout is a graph whose nodes have places.
type layout struct {
	layers [][]*item
	nodes  []*item
}

const sweeps = 12

// lay lays out a graph without cycles, whose boxes are so high.
func lay(nodes []Node, height, gap float64) *layout {
	l := &layout{nodes: make([]*item, len(nodes))}
	for i, layer := range layersOf(nodes) {
		l.nodes[i] = &item{node: i, layer: layer, height: height}
		l.add(l.nodes[i])
	}
	for i, n := range nodes {
		for _, to := range n.Needs {
			l.connect(l.nodes[i], l.nodes[to])
		}
	}
	for i := range sweeps {
		l.sort(i%2 == 0)
	}
	for _, layer := range l.layers {
		y := 0.0
		for _, it := range layer {
			it.y = y + it.height/2
			y += it.height + gap
		}
	}
	for i := range sweeps {
		l.approach(i%2 == 0, gap)
	}
	l.shift()
	return l
}

// layersOf is the layer of each node: one behind the last of those that need it.
func layersOf(nodes []Node) []int {
	layers, waiting := make([]int, len(nodes)), make([]int, len(nodes))
	for _, n := range nodes {
		for _, to := range n.Needs {
			waiting[to]++
		}
	}
	var ready []int
	for i, w := range waiting {
		if w == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		for _, to := range nodes[i].Needs {
			layers[to] = max(layers[to], layers[i]+1)
			if waiting[to]--; waiting[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	return layers
}

func (l *layout) add(it *item) {
	for len(l.layers) <= it.layer {
		l.layers = append(l.layers, nil)
	}
	it.place = len(l.layers[it.layer])
	l.layers[it.layer] = append(l.layers[it.layer], it)
}

// connect joins two nodes by points in the layers between.
func (l *layout) connect(from, to *item) {
	at := from
	for layer := from.layer + 1; layer <= to.layer; layer++ {
		next := to
		if layer < to.layer {
			next = &item{node: -1, layer: layer}
			l.add(next)
		}
		at.ahead, next.back = append(at.ahead, next), append(next.back, at)
		at = next
	}
}

// sort sorts each layer by the neighbours in the one before, or behind.
func (l *layout) sort(forward bool) {
	for i := range l.layers {
		layer := l.layers[i]
		if !forward {
			layer = l.layers[len(l.layers)-1-i]
		}
		mean := make(map[*item]float64, len(layer))
		for _, it := range layer {
			mean[it] = float64(it.place)
			if near := it.neighbours(forward); len(near) > 0 {
				sum := 0
				for _, n := range near {
					sum += n.place
				}
				mean[it] = float64(sum) / float64(len(near))
			}
		}
		slices.SortStableFunc(layer, func(a, b *item) int { return cmp.Compare(mean[a], mean[b]) })
		for i, it := range layer {
			it.place = i
		}
	}
}

func (it *item) neighbours(back bool) []*item {
	if back {
		return it.back
	}
	return it.ahead
}

// block is a run of items that touch each other. first is where the first is best, on the
// whole.
type block struct {
	first, weight float64
	items         int
}

// approach moves each layer towards the one before, or behind.
func (l *layout) approach(forward bool, gap float64) {
	for i := range l.layers {
		layer := l.layers[i]
		if !forward {
			layer = l.layers[len(l.layers)-1-i]
		}
		var blocks []block
		offset := 0.0 // of an item from the first of the layer, at the least
		offsets := make([]float64, len(layer))
		for j, it := range layer {
			if j > 0 {
				offset += (layer[j-1].height+it.height)/2 + gap
			}
			offsets[j] = offset
			b := block{it.wish(forward) - offset, 1, 1}
			for len(blocks) > 0 && blocks[len(blocks)-1].first > b.first {
				before := blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
				w := before.weight + b.weight
				b = block{(before.first*before.weight + b.first*b.weight) / w, w, before.items + b.items}
			}
			blocks = append(blocks, b)
		}
		j := 0
		for _, b := range blocks {
			for range b.items {
				layer[j].y = b.first + offsets[j]
				j++
			}
		}
	}
}

// wish is where an item would be best: at the mean of its neighbours.
func (it *item) wish(back bool) float64 {
	near := it.neighbours(back)
	if len(near) == 0 {
		return it.y
	}
	sum := 0.0
	for _, n := range near {
		sum += n.y
	}
	return sum / float64(len(near))
}

// shift moves all so that the topmost begins at 0.
func (l *layout) shift() {
	top := 0.0
	for i, layer := range l.layers {
		if first := layer[0].y - layer[0].height/2; i == 0 || first < top {
			top = first
		}
	}
	for _, layer := range l.layers {
		for _, it := range layer {
			it.y -= top
		}
	}
}
