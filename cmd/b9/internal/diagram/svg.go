package diagram

import (
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Measures of the picture, in pixels.
const (
	charWidth  = 7.3 // of a monospace font of 12 pixels, and a little
	lineHeight = 16
	padding    = 8
	rowGap     = 10
	layerGap   = 60
	margin     = 10
	maxChars   = 48 // of a line that is shown whole
)

// svgStyle is for a picture on its own; within a page the page's rules come on top.
const svgStyle = `
svg.b9 text{font:12px ui-monospace,monospace;fill:#1b1f24}
svg.b9 .below{fill:#57606a}
svg.b9 rect{fill:#f6f8fa;stroke:#6e7781;rx:4px}
svg.b9 path{fill:none;stroke:#8c959f}
svg.b9 .stale rect{fill:#fff8c5;stroke:#7d4e00}
svg.b9 .failed rect{fill:#ffebe9;stroke:#cf222e}
svg.b9 .critical rect{stroke-width:3}
svg.b9 path.critical{stroke:#1b1f24;stroke-width:2}
`

// SVG is the graph as a picture, from left to right. Each node is a group of the node's
// class, with its whole texts as title; in a link, where it has one.
func SVG(nodes []Node, title string) string {
	height := float64(2*padding + lineHeight)
	for _, n := range nodes {
		if n.Below != "" {
			height = 2*padding + 2*lineHeight
		}
	}
	l := lay(nodes, height, rowGap)
	left, widths := columns(nodes, l)
	bottom := 0.0
	for _, layer := range l.layers {
		last := layer[len(layer)-1]
		bottom = max(bottom, last.y+last.height/2)
	}
	width := 2.0 * margin
	if n := len(left); n > 0 {
		width = left[n-1] + widths[n-1] + margin
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="b9" xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %[1]g %[2]g" role="group" aria-label="%s">`, width, bottom+2*margin, escaped(title))
	b.WriteString("<style>" + svgStyle + `</style><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0L8,4L0,8" style="fill:none"/></marker></defs>`)
	for i, n := range nodes {
		for _, to := range n.Needs {
			edge(&b, l, i, to, nodes, left, widths)
		}
	}
	for i, n := range nodes {
		it := l.nodes[i]
		box(&b, n, left[it.layer], margin+it.y-height/2, widths[it.layer], height)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// columns is where each layer begins, and how wide it is.
func columns(nodes []Node, l *layout) (left, widths []float64) {
	x := float64(margin)
	for _, layer := range l.layers {
		chars := 0
		for _, it := range layer {
			if it.node >= 0 {
				n := nodes[it.node]
				chars = max(chars, min(maxChars, utf8.RuneCountInString(n.Name)), min(maxChars, utf8.RuneCountInString(n.Below)))
			}
		}
		w := charWidth*float64(chars) + 2*padding
		left, widths = append(left, x), append(widths, w)
		x += w + layerGap
	}
	return left, widths
}

func box(b *strings.Builder, n Node, x, y, width, height float64) {
	if n.Link != "" {
		fmt.Fprintf(b, `<a href="%s">`, escaped(n.Link))
	}
	fmt.Fprintf(b, `<g class="node %s"><title>%s</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, escaped(n.Class), escaped(strings.TrimSpace(n.Name+" "+n.Below)), x, y, width, height)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`, x+padding, y+padding+12, escaped(shortened(n.Name)))
	if n.Below != "" {
		fmt.Fprintf(b, `<text class="below" x="%.1f" y="%.1f">%s</text>`, x+padding, y+padding+lineHeight+12, escaped(shortened(n.Below)))
	}
	b.WriteString("</g>")
	if n.Link != "" {
		b.WriteString("</a>")
	}
	b.WriteByte('\n')
}

// edge draws the way from one node to another one, through the points between.
func edge(b *strings.Builder, l *layout, from, to int, nodes []Node, left, widths []float64) {
	class := ""
	if has(nodes[from].Class, "critical") && has(nodes[to].Class, "critical") {
		class = ` class="critical"`
	}
	it := l.nodes[from]
	fmt.Fprintf(b, `<path%s marker-end="url(#tip)" d="M%.1f,%.1f`, class, left[it.layer]+widths[it.layer], margin+it.y)
	for _, next := range l.way(it, l.nodes[to]) {
		x0, x1 := left[next.layer-1]+widths[next.layer-1], left[next.layer]
		middle := (x0 + x1) / 2
		fmt.Fprintf(b, "C%.1f,%.1f %.1f,%.1f %.1f,%.1f", middle, margin+it.y, middle, margin+next.y, x1, margin+next.y)
		if next.node < 0 { // pass the layer
			fmt.Fprintf(b, "H%.1f", x1+widths[next.layer])
		}
		it = next
	}
	b.WriteString("\"/>\n")
}

// way is the items behind from on the edge to another node.
func (l *layout) way(from, to *item) []*item {
	for _, next := range from.ahead {
		way := []*item{next}
		for next.node < 0 {
			next = next.ahead[0]
			way = append(way, next)
		}
		if next == to {
			return way
		}
	}
	return nil
}

func has(words, word string) bool { return strings.Contains(" "+words+" ", " "+word+" ") }

func shortened(text string) string {
	if utf8.RuneCountInString(text) <= maxChars {
		return text
	}
	r := []rune(text)
	return string(r[:maxChars/2-1]) + "…" + string(r[len(r)-maxChars/2:])
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
