// Command site writes b9's documentation as a static site: the documents of docs/, and a
// reference of what the program says of itself. It is run by `make docs`.
//
//	site B9 SOURCE DIR
//	site picture TITLE
//
// The first runs the program B9, reads the tree SOURCE, and writes DIR anew. Pages load
// nothing but files beside them, and nothing from the network. The second draws what a
// program wrote to a terminal, from standard input, as SVG.
//
//	parts.go      which page stands where
//	generated.go  what the program is asked for
//	markdown.go   documents as HTML, and where their links lead
//	write.go      pages, the files that they link to, and the index of the search
//	picture.go    a terminal as SVG
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "picture":
		err = picture(os.Args[2])
	case len(os.Args) == 4:
		err = site(os.Args[1], os.Args[2], os.Args[3])
	default:
		fmt.Fprintln(os.Stderr, "usage: site B9 SOURCE DIR, or site picture TITLE")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

// pictureColumns is how wide pictures are, in characters.
const pictureColumns = 100

// picture draws what standard input has.
func picture(title string) error {
	recorded, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var screen terminal
	screen.write(string(recorded))
	return screen.svg(os.Stdout, title, pictureColumns)
}

// site writes the site.
func site(program, source, dir string) error {
	generated, err := reference(program)
	if err != nil {
		return err
	}
	s := &writer{source: source, dir: dir, pages: map[string]*page{}, others: map[string]bool{}, pictures: map[string]bool{}}
	if err := s.collect(generated); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return s.write()
}
